"""A person's pictures and a checkpoint they hold: fine-tuned, reported, used, saved back, resumed, with no code."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import layerwise as lw

Command = Callable[..., Any]  # see conftest
SHORT = ("max_steps=6", "batch_size=8", "eval.every_epochs=3", "keep.every_steps=2", "keep.last=9")
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}


def timm_checkpoint(timm: ModuleType, folder: Path) -> None:
    """A small ViT as timm saves it, for 7 classes, at 32 x 32 pixels out of 36."""
    torch.manual_seed(0)
    network = timm.create_model("vit_base_patch16_224", num_classes=7, **VIT)
    timm.models.save_for_hf(network, folder, safe_serialization=True)
    tree = json.loads((folder / "config.json").read_text())
    tree["pretrained_cfg"] |= {"crop_pct": 0.888, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.25] * 3}
    (folder / "config.json").write_text(json.dumps(tree))


def transformers_checkpoint(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[32, 48], depths=[1, 1], num_labels=5)
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    processor = {
        "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 28}, "crop_pct": 0.875,
        "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.25] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def torchvision_file(torchvision: ModuleType, path: Path) -> None:
    """A bare state dict of ResNet-18 for nine classes."""
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=9).state_dict(), path)


def train(layerwise: Command, *arguments: object, short: tuple[str, ...] = SHORT) -> Any:
    done = layerwise("train", *arguments, *short, "data.root=photos")
    assert done.code == 0, done.err
    return done


@pytest.fixture
def timm_run(layerwise: Command, photos: Path, tmp_path: Path, timm: ModuleType) -> Any:
    """`r`: a run on the pictures that began with `held`, a checkpoint of timm."""
    timm_checkpoint(timm, tmp_path / "held")
    return train(layerwise, "image_classification", "init=held", "--run", "r")


def test_a_checkpoint_of_timm_is_fine_tuned_used_and_saved_back(
    timm_run: Any, layerwise: Command, tmp_path: Path, timm: ModuleType
) -> None:
    said = " ".join(timm_run.err.split())
    assert "settings of the recipe image_fine_tuning" in said
    assert "30 of 32 tensors loaded" in said
    assert "New head, not from the checkpoint: head.weight [7, 32] -> [2, 32]" in said
    assert "data.size=[32, 32], data.resize=[36, 36], data.interpolation=bicubic" in said
    assert (tmp_path / "r" / "report.html").is_file()
    file = "photos/red/0.png"
    (row,) = json.loads(layerwise("predict", "r", file, "--json").out)
    assert layerwise("export", "r", "--format", "timm", "-o", "back").code == 0
    network = timm.create_model(f"local-dir:{tmp_path / 'back'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    with torch.no_grad(), Image.open(tmp_path / file) as picture:
        scores = network(transform(picture.convert("RGB"))[None]).softmax(1)[0].tolist()
    names = network.pretrained_cfg["label_names"]
    assert names == ["blue", "red"]
    assert dict(zip(names, scores, strict=True)) == pytest.approx(row["scores"], abs=2e-3)
    again = json.loads(layerwise("predict", "back", file, "--json").out)
    assert again[0]["scores"] == pytest.approx(row["scores"], abs=1e-6)


def begin(kind: str, layerwise: Command, tmp_path: Path, timm: ModuleType, torchvision: ModuleType) -> None:
    """`r`: a run that began with `held`, a checkpoint of that kind."""
    if kind == "timm":
        timm_checkpoint(timm, tmp_path / "held")
        train(layerwise, "image_classification", "init=held", "--run", "r")
    elif kind == "transformers":
        transformers_checkpoint(tmp_path / "held")
        train(layerwise, "image_classification", "init=held", "--run", "r")
    else:
        (tmp_path / "held").mkdir()
        torchvision_file(torchvision, tmp_path / "held" / "weights.pth")
        train(layerwise, "resnet18", "init=held/weights.pth", "data.size=32,32", "--run", "r")


@pytest.mark.parametrize("kind", ["timm", "transformers", "torchvision"])
def test_it_goes_on_exactly_when_the_checkpoint_has_gone(
    kind: str, layerwise: Command, photos: Path, tmp_path: Path, timm: ModuleType, torchvision: ModuleType
) -> None:
    """A run cut back to an earlier state, as a kill would leave it: same weights, same report, same predictions."""
    begin(kind, layerwise, tmp_path, timm, torchvision)
    shutil.copytree(tmp_path / "r", tmp_path / "cut")
    states = sorted((tmp_path / "cut" / "state").iterdir())
    assert len(states) == 3
    for state in states[1:]:
        shutil.rmtree(state)
    shutil.rmtree(tmp_path / "cut" / "model")
    (tmp_path / "cut" / "report.html").unlink()
    status = json.loads((tmp_path / "cut" / "status.json").read_text())
    (tmp_path / "cut" / "status.json").write_text(json.dumps({**status, "status": "running", "step": 2}))
    shutil.rmtree(tmp_path / "held")
    done = layerwise("train", "cut")
    assert done.code == 0, done.err
    whole, resumed = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("r", "cut"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert layerwise("report", "cut").code == 0
    assert "blue" in (tmp_path / "cut" / "report.html").read_text()
    rows = [json.loads(layerwise("predict", name, "photos/red/0.png", "--json").out) for name in ("r", "cut")]
    assert rows[0][0]["scores"] == rows[1][0]["scores"]


def test_eval_takes_other_pictures_by_the_same_rule(timm_run: Any, layerwise: Command, tmp_path: Path) -> None:
    done = layerwise("eval", "r", "data.root=photos", "--json")
    assert done.code == 0, done.err
    config = (tmp_path / "r" / "config.yaml").read_text()
    assert "interpolation: bicubic" in config
    assert "channels: rgb" in config


def test_a_checkpoint_of_transformers_is_fine_tuned_and_saved_back(
    layerwise: Command, photos: Path, tmp_path: Path
) -> None:
    transformers_checkpoint(tmp_path / "held")
    done = train(layerwise, "image_classification", "init=held", "--run", "r")
    assert "data.size=[28, 28], data.resize=[32, 32]" in " ".join(done.err.split())
    (row,) = json.loads(layerwise("predict", "r", "photos/blue/1.png", "--json").out)
    assert layerwise("export", "r", "--format", "transformers", "-o", "back").code == 0
    transformers = pytest.importorskip("transformers")
    network = transformers.ResNetForImageClassification.from_pretrained(tmp_path / "back").eval()
    assert network.config.id2label == {0: "blue", 1: "red"}
    images = torch.randn(2, 3, 28, 28)
    assert torch.allclose(network(images).logits, lw.from_pretrained(tmp_path / "r")(images), atol=1e-5)
    again = json.loads(layerwise("predict", "back", "photos/blue/1.png", "--json").out)
    assert again[0]["scores"] == pytest.approx(row["scores"], abs=1e-6)


def test_a_weights_file_of_torchvision_is_fine_tuned_with_the_model_named(
    layerwise: Command, photos: Path, tmp_path: Path, torchvision: ModuleType
) -> None:
    torchvision_file(torchvision, tmp_path / "held.pth")
    short = ("max_steps=2", "batch_size=8")
    done = train(layerwise, "resnet18", "init=held.pth", "data.size=32,32", "--run", "r", short=short)
    said = " ".join(done.err.split())
    assert "does not say how its pictures were prepared: ImageNet's" in said
    assert "data.resize=[37, 37]" in said
    assert "120 of 122 tensors loaded" in said
    assert layerwise("export", "r", "--format", "torchvision", "-o", "back").code == 0
    network = torchvision.models.resnet18(num_classes=2)
    network.load_state_dict(torch.load(tmp_path / "back" / "model.pth", weights_only=True))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.eval()(images), lw.from_pretrained(tmp_path / "r")(images))
    rows = [json.loads(layerwise("predict", name, "photos/red/2.png", "--json").out) for name in ("r", "back")]
    assert rows[0][0]["scores"] == pytest.approx(rows[1][0]["scores"], abs=1e-6)


def test_a_run_is_a_checkpoint_too(timm_run: Any, layerwise: Command, tmp_path: Path) -> None:
    done = train(layerwise, "image_classification", "init=r", "--run", "next")
    said = " ".join(done.err.split())
    assert "32 of 32 tensors loaded" in said
    assert "data.interpolation=bicubic" in said


def test_eval_brings_pictures_of_other_sizes_to_the_size_trained_on(
    layerwise: Command, photos: Path, tmp_path: Path
) -> None:
    """Grey and larger pictures would be read as they are if the model were not asked."""
    assert layerwise("train", "image_classification", "data.root=photos", "max_steps=2", "--run", "r").code == 0
    for name in ("red", "blue"):
        (tmp_path / "others" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("L", (90 + i, 70), 20 * i).save(tmp_path / "others" / name / f"{i}.png")
    done = layerwise("eval", "r", "data.root=others", "--json")
    assert done.code == 0, done.err
    assert "test/accuracy" in json.loads(done.out)["metrics"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resnet18", "init=held"), ("model=resnet18", "init=held", "another architecture")),
        (("image_classification", "model=lenet5", "init=held"), ("model=lenet5", "init=held")),
        (("vit_tiny_patch16_224", "init=held"), ("model=vit_tiny_patch16_224", "d_model=32 there, 192 here")),
        (("image_classification", "init=nowhere"), ("init=nowhere", "no such")),
        (("image_classification", "init=damaged"), ("config.json", "damaged")),
        (("image_classification", "init=short"), ("model.safetensors", "damaged or cut short")),
        (("image_classification", "init=strange"), ("'convnext_tiny'", "none that can be loaded")),
        (("resnet18", "init=code.pth"), ("code.pth", "could run code")),
        (("image_classification", "init=held", "data.size=30,30"), ("image_size", "patch_size=8")),
    ],
)
def test_what_does_not_fit_is_one_plain_error(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    layerwise: Command,
    photos: Path,
    tmp_path: Path,
    timm: ModuleType,
) -> None:
    timm_checkpoint(timm, tmp_path / "held")
    for name in ("damaged", "short", "strange"):
        shutil.copytree(tmp_path / "held", tmp_path / name)
    (tmp_path / "damaged" / "config.json").write_text('{"architecture": "vit')
    weights = tmp_path / "short" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "strange" / "config.json").write_text('{"architecture": "convnext_tiny"}')
    torch.save({"weight": torch.zeros(2), "hook": print}, tmp_path / "code.pth")
    done = layerwise("train", *arguments, *SHORT, "data.root=photos")
    assert done.code == 2, done.err
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert all(word in line for word in words), line


def test_export_says_what_a_library_does_not_have(layerwise: Command, timm_run: Any) -> None:
    done = layerwise("export", "r", "--format", "torchvision", "-o", "out")
    assert done.code == 3
    assert "patch_size=8" in done.err
    done = layerwise("export", "r", "--format", "onyx", "-o", "out")
    assert done.code == 3
    assert "layerwise, timm, torchvision, transformers" in done.err
    assert layerwise("export", "r", "--format", "timm", "-o", "r/model").code == 2
