"""StyleGAN2's building blocks against loops written from the papers, in float64, and the published layout."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.models.generative.stylegan2 import (
    PRESETS,
    EqualConv2d,
    EqualLinear,
    MappingNetwork,
    MinibatchDeviation,
    ModulatedConv,
    StyleGAN2,
    StyleGAN2Config,
    SynthesisLayer,
)
from layerwise.ops.fir import conv_up
from layerwise.ops.random import Draws


def make_gan(**options: object) -> StyleGAN2:
    torch.manual_seed(0)
    sizes = {"in_channels": 1, "image_size": (16, 16), "latent_size": 8, "style_size": 6, "mapping_layers": 2}
    sizes |= {"channel_base": 128, "channel_max": 12}
    return StyleGAN2(StyleGAN2Config(**(sizes | options))).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_modulated_convolution_is_the_loop_over_samples_and_kernels(demodulate: bool, up: bool) -> None:
    """Equations 1 and 3 with a kernel of its own for every sample; float64, 1e-10."""
    torch.manual_seed(0)
    layer = ModulatedConv(5, 4, 3, 6, demodulate=demodulate, up=up).double()
    x, style = torch.randn(3, 5, 6, 8, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    found = layer.convolve(x, style)
    for b in range(3):
        s = style[b] @ layer.affine.weight.T / math.sqrt(6) + layer.affine.bias
        kernel = layer.weight * s[None, :, None, None]
        if demodulate:
            for j in range(4):
                total = sum(float(v) ** 2 for v in kernel[j].flatten().detach())
                kernel = kernel.clone()
                kernel[j] = kernel[j] / math.sqrt(total + 1e-8)
        else:
            kernel = kernel / math.sqrt(5 * 9)
        one = x[b : b + 1]
        wanted = conv_up(one, kernel) if up else F.conv2d(one, kernel, padding=1)
        torch.testing.assert_close(found[b : b + 1], wanted, rtol=1e-10, atol=1e-10)


def test_demodulated_maps_of_normal_input_have_unit_deviation() -> None:
    """What demodulation is for (section 2.2): whatever the style's scale, sums over independent inputs have variance 1.

    2 x 100 x 64 x 64 values of correlated noise; a few per cent of spread.
    """
    torch.manual_seed(0)
    layer = ModulatedConv(50, 100, 3, 6, demodulate=True, up=False).double()
    x = torch.randn(2, 50, 64, 64, dtype=torch.float64)
    for scale in (0.1, 30.0):
        made = layer.convolve(x, scale * torch.randn(2, 6, dtype=torch.float64))[..., 1:-1, 1:-1]
        deviation = made.detach().var((2, 3)).mean(1).sqrt()
        # The style scales the inputs too; in units of the modulated input's deviation that is what is normalised away.
        torch.testing.assert_close(deviation, torch.ones(2, dtype=torch.float64), rtol=0.05, atol=0)


def test_synthesis_layer_adds_noise_and_bias_and_keeps_the_scale() -> None:
    torch.manual_seed(0)
    layer = SynthesisLayer(3, 4, 6, size=(5, 7), up=False).double()
    with torch.no_grad():
        layer.bias.normal_()
        layer.noise_strength.fill_(0.7)
    x, style = torch.randn(2, 3, 5, 7, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    noise = torch.randn(2, 35, dtype=torch.float64)
    for given, used in ((noise, noise.view(2, 1, 5, 7)), (None, layer.noise_const)):
        inner = layer.convolve(x, style) + 0.7 * used + layer.bias[:, None, None]
        wanted = torch.where(inner > 0, inner, 0.2 * inner) * math.sqrt(2)
        torch.testing.assert_close(layer(x, style, given), wanted, rtol=1e-12, atol=1e-12)


def test_equalised_layers_scale_their_weights_where_they_are_used() -> None:
    torch.manual_seed(0)
    linear, conv = EqualLinear(400, 300, rate=0.01, bias=2.0).double(), EqualConv2d(64, 8, 3).double()
    assert linear.weight.std().item() == pytest.approx(100.0, rel=0.02)
    x = torch.randn(3, 400, dtype=torch.float64)
    torch.testing.assert_close(linear(x), x @ (linear.weight.T * 0.01 / 20) + 2.0, rtol=1e-12, atol=1e-12)
    y = torch.randn(2, 64, 5, 5, dtype=torch.float64)
    assert conv.weight.std().item() == pytest.approx(1.0, rel=0.05)
    torch.testing.assert_close(conv(y), F.conv2d(y, conv.weight / 24, padding=1), rtol=1e-12, atol=1e-12)


def test_mapping_does_not_see_the_latents_length() -> None:
    torch.manual_seed(0)
    mapping = MappingNetwork(latent_size=8, style_size=6, num_layers=3).double()
    latents = torch.randn(4, 8, dtype=torch.float64)
    torch.testing.assert_close(mapping(latents), mapping(5 * latents), rtol=1e-6, atol=1e-6)  # 1e-8 under the root


def test_minibatch_deviation_is_the_loop_over_groups() -> None:
    x = torch.randn(6, 3, 2, 2, dtype=torch.float64)
    found = MinibatchDeviation(4)(x)  # 4 does not divide 6: groups of 3, samples i, i + 2, i + 4
    assert torch.equal(found[:, :3], x)
    for b in range(6):
        group = x[[b % 2, b % 2 + 2, b % 2 + 4]]
        mean = group.sum(0) / 3
        deviation = ((group - mean).pow(2).sum(0) / 3 + 1e-8).sqrt()
        torch.testing.assert_close(found[b, 3], deviation.mean().expand(2, 2), rtol=1e-12, atol=1e-12)
    assert float(MinibatchDeviation(1)(x)[:, 3].max()) == pytest.approx(1e-4)


def test_names_are_those_of_the_published_code() -> None:
    names = set(make_gan(channel_max=8).state_dict())
    layer = {"weight", "bias", "affine.weight", "affine.bias", "noise_const", "noise_strength"}
    wanted = {f"generator.synthesis.b{size}.conv{k}.{part}" for size in (8, 16) for k in (0, 1) for part in layer}
    wanted |= {f"generator.synthesis.b4.conv1.{part}" for part in layer} | {"generator.synthesis.b4.const"}
    wanted |= {
        f"generator.synthesis.b{size}.torgb.{part}"
        for size in (4, 8, 16)
        for part in ("weight", "bias", "affine.weight", "affine.bias")
    }
    wanted |= {f"generator.mapping.fc{k}.{part}" for k in (0, 1) for part in ("weight", "bias")}
    wanted |= {"generator.mapping.w_avg"}
    wanted |= {f"discriminator.b16.fromrgb.{part}" for part in ("weight", "bias")}
    wanted |= {
        f"discriminator.b{size}.conv{k}.{part}" for size in (8, 16) for k in (0, 1) for part in ("weight", "bias")
    }
    wanted |= {f"discriminator.b{size}.skip.weight" for size in (8, 16)}
    wanted |= {f"discriminator.b4.{name}.{part}" for name in ("conv", "fc", "out") for part in ("weight", "bias")}
    assert names == wanted


def test_published_256_pixel_networks_have_the_published_sizes() -> None:
    """Config F of the paper, as stylegan2-ada-pytorch prints it for 256 x 256: 512 channels up to 64 x 64, then 256 and
    128; 14 styles.
    """
    config = StyleGAN2Config(in_channels=3, image_size=(256, 256))
    assert [config.channels(size) for size in config.sizes()] == [512, 512, 512, 512, 512, 256, 128]
    with torch.device("meta"):
        assert StyleGAN2(config).num_styles == 14


@pytest.mark.parametrize(("size", "start"), [((28, 28), (7, 7)), ((32, 32), (4, 4)), ((24, 40), (6, 10))])
def test_pictures_have_the_size_of_the_data(size: tuple[int, int], start: tuple[int, int]) -> None:
    gan = make_gan(image_size=size)
    assert gan.config.sizes()[0] == start
    found = gan(torch.randn(2, 8, dtype=torch.float64))
    assert found.images.shape == (2, 1, *size)
    assert found.logits.shape == (2,)


def test_odd_pictures_are_refused() -> None:
    with pytest.raises(ConfigError, match="even"):
        StyleGAN2Config(in_channels=1, image_size=(9, 9))


def test_truncation_draws_towards_the_mean_style() -> None:
    gan, ids, draws = make_gan(), torch.arange(4), Draws(0, "here")
    with torch.no_grad():
        gan.generator.mapping.w_avg.normal_()
        mean = gan.generator.mapping.w_avg.expand(4, gan.num_styles, -1)
        noise = draws.normal(ids, (gan.noise_size,), "noise", torch.float64)
        whole, none = gan.sample_pictures(ids, draws), gan.sample_truncated(ids, draws, 0.0)
        torch.testing.assert_close(none, gan.generator.synthesis(mean, noise), rtol=1e-10, atol=1e-10)
        half = gan.sample_truncated(ids, draws, 0.5)
    assert not torch.allclose(whole, half)


def test_a_sample_depends_on_its_own_id_alone() -> None:
    gan, draws, ids = make_gan(), Draws(0, "here"), torch.tensor([5, 9, 2])
    with torch.no_grad():
        made, alone = gan.sample_pictures(ids, draws), gan.sample_pictures(ids[1:2], draws)
    torch.testing.assert_close(alone[0], made[1], rtol=1e-10, atol=1e-10)


def test_start_gives_pictures_and_logits_of_order_one() -> None:
    """What equalised rates and demodulation promise: no layer blows up or dies, at any width."""
    torch.manual_seed(0)
    config = PRESETS["stylegan2-small"]
    gan = StyleGAN2(
        StyleGAN2Config(
            in_channels=1, image_size=(32, 32), latent_size=config.latent_size, style_size=config.style_size,
            mapping_layers=config.mapping_layers, channel_base=config.channel_base, channel_max=config.channel_max,
        )
    )  # fmt: skip
    latents: Tensor = torch.randn(32, config.latent_size)
    with torch.no_grad():
        images = gan.generator(latents)
        logits = gan.discriminator(torch.randn(32, 1, 1, 1).expand(32, 1, 32, 32))  # filters take noise away
    assert 0.1 < float(images.std()) < 10
    assert 0.05 < float(logits.std()) < 10
