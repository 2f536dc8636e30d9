"""Augmentation: each operation against a loop or another library, and draws that depend on the sample alone."""

import colorsys
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance
from torch import Tensor

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.transforms import TRANSFORMS, _boxes, turn_hue
from layerwise.ops.random import Draws


def pictures(count: int = 16, channels: int = 3, height: int = 9, width: int = 11, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def batch_of(image: Tensor, ids: Tensor | None = None) -> dict[str, Tensor]:
    ids = torch.arange(len(image)) if ids is None else ids
    return {"image": image, "sample_ids": ids, "labels": ids % 3}


def apply(name: str, image: Tensor, *, ids: Tensor | None = None, epoch: int = 0, **options: object) -> Tensor:
    transform = parse_component("transform", {"name": name, **options}, "data.augment").build()
    return transform(batch_of(image, ids), Draws(0, "augment", epoch))["image"]


OPTIONS: dict[str, dict[str, object]] = {
    "flip": {},
    "shift": {"pixels": 3},
    "crop": {"padding": 2},
    "random_resized_crop": {"scale": [0.3, 1.0]},
    "affine": {},
    "colour_jitter": {"hue": 0.2},
    "erasing": {"probability": 0.7},
    "binarise": {},
}
IDENTITIES: dict[str, dict[str, object]] = {
    "flip": {"probability": 0},
    "shift": {"pixels": 0},
    "crop": {"padding": 0},
    "random_resized_crop": {"scale": [1.0, 1.0], "ratio": [11 / 9, 11 / 9]},
    "affine": {"degrees": 0, "scale": [1.0, 1.0], "translate": 0},
    "colour_jitter": {"brightness": 0, "contrast": 0, "saturation": 0},
    "erasing": {"probability": 0},
}


def test_every_transform_is_tested_here() -> None:
    assert set(OPTIONS) == set(TRANSFORMS) == {*IDENTITIES, "binarise"}  # which always makes pixels black or white


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_draw_is_that_of_the_sample_whatever_the_batch(name: str, channels: int) -> None:
    image = pictures(24, channels)
    whole = apply(name, image, **OPTIONS[name])
    assert whole.dtype == torch.uint8
    assert whole.shape == image.shape
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:10]
    part = apply(name, image[order], ids=order, **OPTIONS[name])
    assert torch.equal(part, whole[order])
    single = apply(name, image[7:8], ids=torch.tensor([7]), **OPTIONS[name])
    assert torch.equal(single, whole[7:8])


def test_grey_level_is_the_probability_of_white() -> None:
    """Black and white stay; 40,000 pixels of level 64 have the share 64 / 255 = 0.2510, standard error 0.0022."""
    image = torch.tensor([0, 64, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 1, 200, 200).contiguous()
    found = apply("binarise", image)
    assert set(found.unique().tolist()) == {0, 255}
    shares = (found == 255).double().mean((1, 2, 3)).tolist()
    assert shares == [0.0, pytest.approx(64 / 255, abs=0.01), 1.0]


@pytest.mark.parametrize("name", OPTIONS)
def test_other_epochs_draw_otherwise(name: str) -> None:
    image = pictures(64)
    assert not torch.equal(apply(name, image, **OPTIONS[name]), apply(name, image, epoch=1, **OPTIONS[name]))


@pytest.mark.parametrize("name", IDENTITIES)
def test_no_strength_changes_nothing(name: str) -> None:
    image = pictures()
    assert torch.equal(apply(name, image, **IDENTITIES[name]), image)


@pytest.mark.parametrize("name", OPTIONS)
def test_input_and_other_columns_stay_as_they_are(name: str) -> None:
    image = pictures()
    kept = image.clone()
    batch = batch_of(image)
    transform = parse_component("transform", {"name": name, **OPTIONS[name]}, "x").build()
    made = transform(batch, Draws(0))
    assert torch.equal(image, kept)
    assert set(made) == set(batch)
    assert torch.equal(made["labels"], batch["labels"])


@pytest.mark.parametrize("name", OPTIONS)
def test_data_without_pictures_is_refused(name: str) -> None:
    transform = parse_component("transform", {"name": name, **OPTIONS[name]}, "x").build()
    with pytest.raises(DataError, match="no such column"):
        transform({"numeric": torch.zeros(2, 3), "sample_ids": torch.arange(2)}, Draws(0))
    with pytest.raises(DataError, match=r"torch\.float32"):
        transform(batch_of(torch.zeros(2, 3, 4, 4)), Draws(0))


@pytest.mark.parametrize(("direction", "dim"), [("horizontal", 3), ("vertical", 2)])
def test_certain_flip_is_torchs(direction: str, dim: int) -> None:
    image = pictures()
    assert torch.equal(apply("flip", image, probability=1, direction=direction), image.flip(dim))


def test_half_of_the_pictures_are_flipped() -> None:
    image = pictures(4000, 1, 2, 2)
    flipped = (apply("flip", image) == image.flip(3)).flatten(1).all(1) & (image != image.flip(3)).flatten(1).any(1)
    assert abs(int(flipped.sum()) - 2000) < 4 * math.sqrt(1000)


def test_shift_is_the_naive_loop() -> None:
    image = pictures(40, 2, 6, 7)
    moved = apply("shift", image, pixels=3)
    place = Draws(0, "augment", 0).integers(torch.arange(40), (2,), "shift", 7)
    for i in range(40):
        dy, dx = 3 - int(place[i, 0]), 3 - int(place[i, 1])
        expected = torch.zeros_like(image[i])
        for y in range(6):
            for x in range(7):
                if 0 <= y - dy < 6 and 0 <= x - dx < 7:
                    expected[:, y, x] = image[i, :, y - dy, x - dx]
        assert torch.equal(moved[i], expected)


def test_shift_reaches_every_offset() -> None:
    image = torch.zeros(2000, 1, 5, 5, dtype=torch.uint8)
    image[:, 0, 2, 2] = 1
    reached = apply("shift", image, pixels=2).sum(0)[0]
    assert (reached > 0).all()
    assert int(reached.sum()) == 2000
    assert (reached - 80).abs().max() < 5 * math.sqrt(80)  # uniform over 25 places


@pytest.mark.parametrize("fill", ["zero", "reflect"])
def test_crop_is_a_window_of_the_padded_picture(fill: str) -> None:
    image = pictures(30, 1, 8, 9)
    padded = F.pad(image.float(), (2, 2, 2, 2), mode="constant" if fill == "zero" else "reflect").to(torch.uint8)
    cut = apply("crop", image, padding=2, fill=fill, size=[5, 6])
    assert cut.shape == (30, 1, 5, 6)
    for i in range(30):
        windows = [padded[i, :, y : y + 5, x : x + 6] for y in range(8) for x in range(8)]
        assert any(torch.equal(cut[i], window) for window in windows)


def test_crop_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"crop\.size=20, 20"):
        apply("crop", pictures(), size=[20, 20], padding=1)
    with pytest.raises(ConfigError, match="less than the picture's side of 9"):
        apply("crop", pictures(), padding=9, fill="reflect")


def test_boxes_have_area_and_shape_in_range_and_lie_inside() -> None:
    ids = torch.arange(3000)
    top, left, height, width = _boxes(Draws(0), ids, "x", (60, 40), (0.1, 0.5), (0.5, 2.0))
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 60).all()
    assert (left + width <= 40).all()
    share = (height * width).double() / 2400
    assert share.min() > 0.1 - 0.02  # sides are rounded to pixels
    assert share.max() < 0.5 + 0.02
    ratio = width.double() / height
    assert ratio.min() > 0.5 * 0.9
    assert ratio.max() < 2.0 * 1.1
    assert share.std() > 0.05
    assert len(set(top.tolist())) > 20


def test_box_that_cannot_fit_is_the_centred_nearest() -> None:
    """A whole-area box of ratio 1 does not fit into 10 x 30: torchvision's fallback is the centred 10 x 10."""
    for part, expected in zip(
        _boxes(Draws(0), torch.arange(5), "x", (10, 30), (1.0, 1.0), (1.0, 1.0)), (0, 10, 10, 10), strict=True
    ):
        assert part.tolist() == [expected] * 5


def test_resized_crop_equals_interpolation_of_the_box() -> None:
    image = pictures(12, 3, 20, 16)
    got = apply("random_resized_crop", image, scale=[0.2, 0.6])
    boxes = _boxes(Draws(0, "augment", 0), torch.arange(12), "random_resized_crop", (20, 16), (0.2, 0.6), (0.75, 4 / 3))
    for i, (top, left, height, width) in enumerate(zip(*(part.tolist() for part in boxes), strict=True)):
        window = image[i : i + 1, :, top : top + height, left : left + width].double()
        expected = F.interpolate(window, (20, 16), mode="bilinear", align_corners=False)[0]
        y, x = (torch.arange(20) + 0.5) * height / 20 - 0.5, (torch.arange(16) + 0.5) * width / 16 - 0.5
        # At a box's edge our samples see the picture go on, the window's are clamped: compare what needs no neighbour.
        rows, columns = (y >= 0) & (y <= height - 1), (x >= 0) & (x <= width - 1)
        difference = (got[i].double() - expected).abs()[:, rows][:, :, columns]
        assert difference.numel() > 100
        assert difference.max() <= 0.51


def test_affine_turns_scales_and_moves_as_the_formula() -> None:
    """Against a float64 loop of bilinear look-ups at R(-angle) (p - move) / factor about the centre."""
    image = pictures(6, 1, 13, 9)
    got = apply("affine", image, degrees=40, scale=[0.7, 1.4], translate=0.2)[:, 0].double().numpy()
    u = Draws(0, "augment", 0).uniform(torch.arange(6), (4,), "affine", torch.float64).numpy()
    for i in range(6):
        angle = math.radians(-40 + 80 * u[i, 0])
        factor = math.exp(math.log(0.7) + u[i, 1] * math.log(2.0))
        move_x, move_y = (-0.2 + 0.4 * u[i, 2]) * 9, (-0.2 + 0.4 * u[i, 3]) * 13
        padded = np.zeros((13 + 40, 9 + 40))
        padded[20:33, 20:29] = image[i, 0].numpy()
        for y in range(13):
            for x in range(9):
                px, py = x + 0.5 - 4.5 - move_x, y + 0.5 - 6.5 - move_y
                sx = (math.cos(angle) * px + math.sin(angle) * py) / factor + 4.5 - 0.5
                sy = (-math.sin(angle) * px + math.cos(angle) * py) / factor + 6.5 - 0.5
                x0, y0 = math.floor(sx), math.floor(sy)
                ax, ay = sx - x0, sy - y0
                value = sum(
                    wy * wx * padded[20 + y0 + j, 20 + x0 + k]
                    for j, wy in ((0, 1 - ay), (1, ay))
                    for k, wx in ((0, 1 - ax), (1, ax))
                )
                assert abs(got[i, y, x] - value) <= 0.51


@pytest.mark.parametrize("operation", ["brightness", "contrast", "saturation"])
def test_colour_operations_are_pillows(operation: str) -> None:
    image = pictures(20, 3, 12, 10)
    options = {"brightness": 0, "contrast": 0, "saturation": 0, operation: 0.6}
    got = apply("colour_jitter", image, **options)
    column = ["brightness", "contrast", "saturation"].index(operation)
    u = Draws(0, "augment", 0).uniform(torch.arange(20), (4, 1, 1, 1), "colour_jitter")[:, column, 0, 0, 0]
    pillow = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
    }
    for i in range(20):
        factor = 0.4 + 1.2 * float(u[i])
        theirs = pillow[operation](Image.fromarray(image[i].permute(1, 2, 0).numpy())).enhance(factor)
        difference = got[i].permute(1, 2, 0).int() - torch.from_numpy(np.array(theirs)).int()
        assert difference.abs().max() <= 2  # Pillow rounds in between


def test_hue_is_the_standard_librarys() -> None:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(3, 3, 4, 5, generator=generator, dtype=torch.float64) * 255
    colours[0, :, 0, 0] = 100.0  # grey
    colours[0, :, 0, 1] = torch.tensor([200.0, 200.0, 10.0])  # two channels equal
    turns = torch.tensor([0.1, -0.35, 0.5], dtype=torch.float64)
    got = turn_hue(colours, turns.view(3, 1, 1))
    for i in range(3):
        for y in range(4):
            for x in range(5):
                h, s, v = colorsys.rgb_to_hsv(*(colours[i, :, y, x] / 255).tolist())
                expected = torch.tensor(colorsys.hsv_to_rgb((h + float(turns[i])) % 1.0, s, v)) * 255
                assert torch.allclose(got[i, :, y, x], expected.double(), atol=1e-4)


def test_grey_pictures_keep_one_channel_under_colour_jitter() -> None:
    image = pictures(8, 1)
    assert torch.equal(apply("colour_jitter", image, brightness=0, contrast=0, saturation=1, hue=0.5), image)


def test_erased_is_one_rectangle_of_the_value() -> None:
    image = pictures(60, 3, 20, 20).clamp(max=200)
    got = apply("erasing", image, probability=1, value=255)
    boxes = _boxes(Draws(0, "augment", 0), torch.arange(60), "erasing", (20, 20), (0.02, 0.33), (0.3, 3.3))
    for i, (top, left, height, width) in enumerate(zip(*(part.tolist() for part in boxes), strict=True)):
        expected = image[i].clone()
        expected[:, top : top + height, left : left + width] = 255
        assert torch.equal(got[i], expected)


def test_share_of_pictures_is_erased() -> None:
    image = torch.full((4000, 1, 8, 8), 9, dtype=torch.uint8)
    changed = int((apply("erasing", image, probability=0.25) != 9).flatten(1).any(1).sum())
    assert abs(changed - 1000) < 4 * math.sqrt(750)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random_resized_crop", {"scale": [0.9, 0.1]}),
        ("random_resized_crop", {"ratio": [2.0, 1.0]}),
        ("affine", {"scale": [2.0, 1.0]}),
        ("erasing", {"ratio": [2.0, 1.0]}),
        ("colour_jitter", {"hue": 0.6}),
        ("flip", {"probability": 1.5}),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse_component("transform", {"name": name, **options}, "data.augment")
