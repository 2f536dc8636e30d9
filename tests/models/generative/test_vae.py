"""Variational autoencoder: what its card says and the general contract do not cover."""

import math

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.generative.vae import VAE, VAEConfig
from layerwise.ops.random import Draws


def make_vae(**options: object) -> VAE:
    torch.manual_seed(0)
    sizes = {"in_channels": 1, "image_size": (4, 8), "hidden_sizes": (12, 10), "code_size": 3}
    return VAE(VAEConfig(**(sizes | options))).double()  # type: ignore[arg-type]


def test_the_papers_perceptron_has_784_200_200_50_units_and_back() -> None:
    vae = VAE(VAEConfig(in_channels=1, image_size=(28, 28)))
    encoder = (784 + 1) * 200 + (200 + 1) * 200 + (200 + 1) * 2 * 50
    decoder = (50 + 1) * 200 + (200 + 1) * 200 + (200 + 1) * 784
    assert sum(p.numel() for p in vae.parameters()) == encoder + decoder


def test_bernoulli_likelihood_is_the_product_over_pixels() -> None:
    """Float64, 1e-12: log prod p^x (1 - p)^(1 - x), one picture and pixel at a time."""
    vae = make_vae()
    images = (torch.rand(5, 1, 4, 8, dtype=torch.float64) < 0.4).double()
    codes = torch.randn(5, 3, dtype=torch.float64)
    with torch.no_grad():
        found, means = vae.log_likelihood(images, codes), vae.decode_pictures(codes).double()
        logits = vae.decode(codes)
    for b in range(5):
        wanted = sum(
            math.log(p if x else 1 - p)
            for x, p in zip(images[b].flatten().tolist(), logits[b].sigmoid().flatten().tolist(), strict=True)
        )
        assert found[b].item() == pytest.approx(wanted, rel=1e-12)
    torch.testing.assert_close(means, logits.sigmoid(), rtol=1e-6, atol=1e-6)  # means are float32


def test_gaussian_likelihood_is_scipys() -> None:
    from scipy.stats import norm

    vae = make_vae(likelihood="gaussian")
    images, codes = torch.rand(5, 1, 4, 8, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    with torch.no_grad():
        vae.pixel_log_variance.fill_(-1.3)
        found, means = vae.log_likelihood(images, codes), vae.decode(codes)
    wanted = norm.logpdf(images.numpy(), means.numpy(), math.exp(-1.3 / 2)).sum((1, 2, 3))
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-12, atol=1e-12)


def test_every_parameter_of_a_gaussian_decoder_is_reached_by_the_likelihood() -> None:
    vae = make_vae(likelihood="gaussian", widths=(4, 6))
    images = torch.rand(5, 1, 4, 8, dtype=torch.float64)
    mean, log_variance = vae.encode_distribution(images)
    (vae.log_likelihood(images, mean + log_variance).sum()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in vae.parameters())


def test_class_changes_code_and_picture_of_a_conditional_model_only() -> None:
    images, zeros, ones = torch.rand(2, 1, 4, 8).double(), torch.zeros(2).long(), torch.ones(2).long()
    told, untold = make_vae(conditional=True, num_classes=3), make_vae(num_classes=3)
    with torch.no_grad():
        assert not torch.equal(told(images, zeros).mean, told(images, ones).mean)
        code = torch.randn(2, 3, dtype=torch.float64)
        assert not torch.equal(told.decode(code, zeros), told.decode(code, ones))
        assert torch.equal(untold(images, zeros).mean, untold(images, ones).mean)
    with pytest.raises(ConfigError, match="needs labels"):
        told(images)


def test_samples_depend_on_their_own_id_alone_and_lie_in_the_unit_range() -> None:
    vae = make_vae(conditional=True, num_classes=3, likelihood="gaussian", widths=(4, 6))
    draws, ids = Draws(0, "here"), torch.tensor([5, 9, 2])
    with torch.no_grad():
        made = vae.sample_pictures(ids, draws)
        alone = vae.sample_pictures(ids[1:2], draws)
    assert made.shape == (3, 1, 4, 8)
    assert float(made.min()) >= 0.0
    assert float(made.max()) <= 1.0
    torch.testing.assert_close(alone[0], made[1], rtol=1e-6, atol=1e-6)
    assert not torch.equal(made[0], made[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (6, 8), "widths": (4, 4)}, "divisible by 4"),
        ({"hidden_sizes": ()}, "hidden_sizes"),
        ({"conditional": True}, "num_classes"),
        ({"in_channels": None}, "in_channels"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_vae(**options)
