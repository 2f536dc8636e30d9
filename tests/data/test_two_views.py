"""Two views: each operation against a naive loop or scipy, and draws that depend on the sample alone."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from layerwise.core.errors import ConfigError, DataError
from layerwise.data.two_views import TwoViews, TwoViewsConfig, blur
from layerwise.ops.random import Draws

STILL = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "brightness": 0.0, "contrast": 0.0}


def make_batch(count: int = 6, height: int = 9, width: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 2, height, width), generator=generator, dtype=torch.uint8)
    return {
        "image": image,
        "sample_ids": torch.randperm(100, generator=generator)[:count],
        "labels": torch.zeros(count),
    }


def test_without_any_change_both_views_are_the_picture() -> None:
    batch = make_batch()
    found = TwoViews(TwoViewsConfig(**STILL))(batch, Draws(0))
    assert torch.equal(found["image"], batch["image"])
    assert torch.equal(found["image_2"], batch["image"])
    assert torch.equal(found["labels"], batch["labels"])


def test_sure_flip_mirrors_left_and_right() -> None:
    batch = make_batch()
    found = TwoViews(TwoViewsConfig(**{**STILL, "flip": 1.0}))(batch, Draws(0))
    assert torch.equal(found["image"], batch["image"].flip(3))


def test_views_depend_on_sample_and_not_on_batch_mates() -> None:
    batch, transform = make_batch(), TwoViews(TwoViewsConfig(blur=0.5))
    whole = transform(batch, Draws(7))
    parts = [transform({name: value[i : i + 2] for name, value in batch.items()}, Draws(7)) for i in (0, 2, 4)]
    for name in ("image", "image_2"):
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
    assert not torch.equal(whole["image"], whole["image_2"])
    assert not torch.equal(whole["image"], transform(batch, Draws(8))["image"])


def test_crop_is_a_bilinear_reading_of_a_box_inside_the_picture() -> None:
    """Output centre (i + 0.5) / n is read at low + (i + 0.5) / n x length of a box with the drawn area and shape."""
    config = TwoViewsConfig(**{**STILL, "scale": (0.3, 0.8), "ratio": (0.75, 4 / 3)})
    batch = make_batch()
    found = TwoViews(config)(batch, Draws(1))["image"]
    u = Draws(1).uniform(batch["sample_ids"], (9,), "two_views-1").double().tolist()
    height, width = 9, 7
    for n in range(6):
        area, ratio = 0.3 + 0.5 * u[n][0], 0.75 * (16 / 9) ** u[n][1]
        box_w, box_h = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
        x0, y0 = (1 - box_w) * u[n][2], (1 - box_h) * u[n][3]
        for i in range(height):
            for j in range(width):
                x = min(max((x0 + box_w * (j + 0.5) / width) * width - 0.5, 0.0), width - 1.0)
                y = min(max((y0 + box_h * (i + 0.5) / height) * height - 0.5, 0.0), height - 1.0)
                left, top = int(x), int(y)
                right, bottom, fx, fy = min(left + 1, width - 1), min(top + 1, height - 1), x - left, y - top
                p = batch["image"][n, 0].double()
                value = (1 - fy) * ((1 - fx) * p[top, left] + fx * p[top, right]) + fy * (
                    (1 - fx) * p[bottom, left] + fx * p[bottom, right]
                )
                assert abs(float(found[n, 0, i, j]) - float(value)) <= 0.501  # rounding to whole grey levels


def test_brightness_multiplies_within_its_bounds() -> None:
    batch = {"image": torch.full((400, 1, 4, 4), 100, dtype=torch.uint8), "sample_ids": torch.arange(400)}
    found = TwoViews(TwoViewsConfig(**{**STILL, "brightness": 0.4}))(batch, Draws(0))["image"][:, 0, 0, 0].float()
    assert 60 <= float(found.min()) < 64
    assert 136 < float(found.max()) <= 140


def test_contrast_keeps_the_mean_and_scales_differences() -> None:
    image = torch.tensor([80, 120], dtype=torch.uint8).view(1, 1, 1, 2).expand(400, 1, 1, 2)
    found = TwoViews(TwoViewsConfig(**{**STILL, "contrast": 0.5}))(
        {"image": image, "sample_ids": torch.arange(400)}, Draws(0)
    )["image"].float()
    difference = found[:, 0, 0, 1] - found[:, 0, 0, 0]
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.full((400,), 100.0), rtol=0, atol=0.5)
    assert 20 <= float(difference.min()) < 24
    assert 56 < float(difference.max()) <= 60


def test_blur_equals_scipys_gaussian_filter() -> None:
    pictures = torch.rand(3, 2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.4, 0.8, 1.5], dtype=torch.float64)
    found = blur(pictures, sigma)
    for n in range(3):
        for c in range(2):
            wanted = gaussian_filter(pictures[n, c].numpy(), float(sigma[n]), mode="nearest", radius=2)
            torch.testing.assert_close(found[n, c], torch.from_numpy(wanted), rtol=1e-10, atol=1e-10)


def test_data_without_pictures_is_refused() -> None:
    with pytest.raises(DataError, match="features"):
        TwoViews(TwoViewsConfig())({"features": torch.zeros(2, 3), "sample_ids": torch.arange(2)}, Draws(0))


@pytest.mark.parametrize("options", [{"scale": (0.9, 0.3)}, {"scale": (0.3, 1.5)}, {"sigma": (2.0, 1.0)}], ids=str)
def test_ranges_in_the_wrong_order_are_refused(options: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        TwoViewsConfig(**options)  # type: ignore[arg-type]
