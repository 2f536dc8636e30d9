"""Pictures are prepared as the library of the checkpoint prepares them: within one grey level, on Pillow's pictures."""

import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.errors import CheckpointError, ConfigError, UnsupportedError
from layerwise.data.fit import Fit
from layerwise.data.pictures import decode_image
from layerwise.interop.preprocessing import (
    Preprocessing,
    from_timm,
    from_transformers,
    from_tree,
    imagenet,
    to_timm,
    to_transformers,
    to_tree,
)
from layerwise.tasks.preprocessing import Normalise

SIZES = [(300, 451), (451, 300), (97, 61), (256, 256), (224, 224), (20, 33)]  # height, width; the last are enlarged
TIMM: dict[str, dict[str, Any]] = {
    "bicubic-0.9": {"crop_pct": 0.9, "interpolation": "bicubic"},
    "bilinear-0.875": {"crop_pct": 0.875, "interpolation": "bilinear"},
    "whole": {"crop_pct": 1.0, "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "squash": {"crop_pct": 1.0, "interpolation": "bicubic", "crop_mode": "squash"},
    "squash-0.95": {"crop_pct": 0.95, "interpolation": "bilinear", "crop_mode": "squash"},
    "tall": {"crop_pct": 0.875, "interpolation": "bicubic", "input_size": (3, 160, 96)},
    "lanczos": {"crop_pct": 0.95, "interpolation": "lanczos"},
}


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth colours with noise, so that each resampling shows."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 11)], -1)
    pixels = 128 + 80 * waves + generator.normal(0, 25, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def ours(picture: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    """float [C, H, W] in grey levels before normalisation is undone: what the network gets, times std, plus mean."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    pixels = decode_image(file.getvalue(), preprocessing.fit, 3)
    made = Normalise(preprocessing.mean, preprocessing.std)(pixels[None])[0]
    return levels(made, preprocessing)


def levels(made: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return 255 * (made * std + mean)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", TIMM)
def test_pictures_equal_those_of_timm(timm: ModuleType, case: str, size: tuple[int, int]) -> None:
    import timm.data

    cfg = {"input_size": (3, 224, 224), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), **TIMM[case]}
    preprocessing = from_timm(cfg, "config.json")
    assert preprocessing is not None
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=cfg))
    picture = photo(*size)
    wanted = levels(transform(picture), preprocessing)
    assert (ours(picture, preprocessing) - wanted).abs().max() <= 1.01


@pytest.mark.parametrize("size", SIZES)
def test_pictures_equal_those_of_torchvision(torchvision: ModuleType, size: tuple[int, int]) -> None:
    from torchvision.transforms import _presets

    preprocessing, picture = imagenet(224, 224), photo(*size)
    wanted = levels(_presets.ImageClassification(crop_size=224, resize_size=256)(picture), preprocessing)
    assert (ours(picture, preprocessing) - wanted).abs().max() <= 1.01


@pytest.mark.parametrize(
    "tree",
    [
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 48, "width": 32}, "resample": 2},
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 40, "width": 40}, "resample": 3},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}, "resample": 3},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "resample": 3},
        {
            "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, "do_center_crop": True,
            "crop_size": {"height": 32, "width": 32}, "resample": 3,
        },
    ],
    ids=["squash", "bicubic", "convnext", "convnext-384", "clip"],
)  # fmt: skip
def test_pictures_equal_those_of_transformers(torchvision: ModuleType, tree: dict[str, Any]) -> None:
    """Both sides cut an even number of pixels off: of an odd one, transformers' two processors differ by a pixel."""
    transformers = pytest.importorskip("transformers")
    tree = {**tree, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "do_resize": True}
    if "ConvNext" in tree["image_processor_type"]:
        tree["crop_pct"] = 0.875
    preprocessing = from_transformers(tree, "preprocessor_config.json")
    options = {key: value for key, value in tree.items() if key != "image_processor_type"}
    kind = tree["image_processor_type"]
    processor_class = getattr(transformers, f"{kind}Pil", None) or getattr(transformers, kind)
    picture = photo(120, 180)
    wanted = processor_class(**options)(picture, return_tensors="pt")["pixel_values"][0]
    assert (ours(picture, preprocessing) - levels(wanted, preprocessing)).abs().max() <= 1.01


@pytest.mark.parametrize("case", TIMM)
def test_what_is_written_for_timm_is_read_back(case: str) -> None:
    preprocessing = from_timm({"input_size": (3, 224, 224), **TIMM[case]}, "config.json")
    assert preprocessing is not None
    assert from_timm(json.loads(json.dumps(to_timm(preprocessing))), "config.json") == preprocessing


@pytest.mark.parametrize("resize", range(224, 300))
def test_every_resized_side_has_a_share_that_timm_floors_to_it(resize: int) -> None:
    preprocessing = Preprocessing(fit=Fit(size=(224, 224), resize=(resize, resize)), mean=(0.5,), std=(0.5,))
    found = from_timm(to_timm(preprocessing), "config.json")
    assert found is not None
    assert found.resized() == (resize, resize)


@pytest.mark.parametrize(
    "fit",
    [
        Fit(size=(32, 32), resize=(36, 36), interpolation="bicubic"),
        Fit(size=(32, 48), resize=(50, 50)),
        Fit(size=(32, 24), interpolation="lanczos", mode="squash"),
    ],
)
def test_what_is_written_is_read_back(fit: Fit) -> None:
    preprocessing = Preprocessing(fit=fit, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert from_transformers(to_transformers(preprocessing), "here") == preprocessing
    again = from_tree(json.loads(json.dumps(to_tree(preprocessing))), "here")
    assert (again.resized(), again.fit.size, again.mean) == (preprocessing.resized(), fit.size, preprocessing.mean)


def test_what_no_image_processor_does_is_refused() -> None:
    squash = Preprocessing(fit=Fit(size=(32, 32), resize=(40, 40), mode="squash"), mean=(0.5,), std=(0.5,))
    with pytest.raises(UnsupportedError, match="squash"):
        to_transformers(squash)


@pytest.mark.parametrize(
    ("read", "tree", "word"),
    [
        (from_timm, {"input_size": (3, 224, 224), "crop_mode": "border"}, "crop_mode='border'"),
        (from_timm, {"input_size": (3, 224, 224), "crop_pct": 1.5}, "crop_pct=1.5"),
        (from_timm, {"input_size": (3, 224, 224), "mean": (0.5,)}, "mean="),
        (from_timm, {"input_size": "large"}, "input_size='large'"),
        (from_timm, {"input_size": (3, 224, 224), "interpolation": "sinc"}, "interpolation='sinc'"),
        (from_transformers, {"size": {"longest_edge": 4}}, "longest_edge"),
        (from_transformers, {"resample": 9}, "resample=9"),
        (from_transformers, {"do_resize": False}, "do_resize"),
        (from_transformers, {"rescale_factor": 1.0}, "rescale_factor"),
        (from_transformers, {"size": {"shortest_edge": 4}}, "several shapes"),
    ],
)
def test_what_is_not_understood_is_named(read: Any, tree: dict[str, Any], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        read(tree, "config.json")


def test_more_cannot_be_cut_out_than_is_there() -> None:
    with pytest.raises(ConfigError, match="resize"):
        Fit(size=(32, 32), resize=(16, 32))


def test_a_folder_of_pictures_is_read_by_the_same_rule(tmp_path: Path) -> None:
    from layerwise.data.image_folder import ImageFolder, ImageFolderConfig

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(6):
            photo(40 + i, 50, seed=i).save(tmp_path / name / f"{i}.png")
    options: dict[str, Any] = {"size": (24, 24), "resize": (32, 32), "interpolation": "bicubic"}
    splits = ImageFolder(ImageFolderConfig(root=str(tmp_path), **options)).splits()
    assert splits.train is not None
    found = splits.train.collate(torch.tensor([3]))["image"][0]
    picture = photo(43, 50, seed=3).resize((37, 32), Image.Resampling.BICUBIC).crop((6, 4, 30, 28))
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(picture))
