"""The KL autoencoder: published size, draws of latents, tiles. Parity: tests/interop/test_diffusers.py."""

import pytest
import torch
from torch import Tensor, nn

import layerwise as lw
from layerwise.core.errors import ConfigError
from layerwise.models.generative.autoencoder_kl import PRESETS, AutoencoderKL, AutoencoderKLConfig


def make_vae(**options: object) -> AutoencoderKL:
    torch.manual_seed(0)
    config = AutoencoderKLConfig(**{**vars(PRESETS["autoencoder-kl-tiny"]), **options})  # pyright: ignore
    net = AutoencoderKL(config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def test_size_is_that_of_the_published_checkpoints() -> None:
    """83.65 million parameters in Stable Diffusion's `vae` folder."""
    with torch.device("meta"):
        network = lw.create_model("autoencoder-kl")
    assert sum(parameter.numel() for parameter in network.parameters()) == 83_653_863


def test_noise_moves_the_latents_by_their_deviation() -> None:
    vae, images = make_vae(), torch.rand(1, 3, 16, 16) * 2 - 1
    noise = torch.randn(1, 2, 8, 8)
    plain, drawn = vae(images), vae(images, noise)
    assert torch.equal(plain.mean, drawn.mean)
    latents = plain.mean + plain.log_variance.exp().sqrt() * noise
    torch.testing.assert_close(drawn.reconstruction, vae.decode(latents), rtol=1e-5, atol=1e-6)


class Unnormed(nn.Module):
    """Without norms the decoder sees only near neighbours, so tiles that overlap enough must be exact."""

    def forward(self, x: Tensor, silu: bool = False) -> Tensor:
        return torch.nn.functional.silu(x) if silu else x


@torch.no_grad()
def test_tiles_of_a_decoder_that_sees_near_only_are_exact_where_they_are_faded() -> None:
    vae = make_vae(attention=False)
    for module in list(vae.decoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, Unnormed())
    latents = torch.randn(1, 2, 40, 56)
    whole, tiled = vae.decode(latents), vae.decode_tiles(latents, tile=24, overlap=11)
    error = (whole - tiled).abs()
    assert float(error.mean()) < 0.02 * float(whole.std())
    # tiles begin at 0, 10, 19 down and 0, 11, 22, 33 across: here is one only, and its far edges do not reach this far
    assert float(error[..., :16, :22].max()) < 1e-5 * float(whole.abs().max())


@torch.no_grad()
def test_tiles_show_no_seam() -> None:
    """Neighbouring pixels differ across the edges of tiles as they do elsewhere."""
    vae = make_vae()
    latents = torch.nn.functional.interpolate(torch.randn(1, 2, 8, 8), size=(64, 64), mode="bicubic")
    tiled = vae.decode_tiles(latents, tile=32, overlap=8)
    steps = (tiled[..., 1:] - tiled[..., :-1]).abs().mean(dim=(0, 1, 2))
    edges = [at * 2 - 1 for at in (18, 37, 0 + 27, 18 + 27)]  # tiles begin at 0, 18, 37 latents, of two pixels each
    elsewhere = torch.ones(len(steps), dtype=torch.bool)
    elsewhere[[edge + d for edge in edges for d in (-1, 0, 1)]] = False
    assert float(steps[edges].max()) <= 1.5 * float(steps[elsewhere].quantile(0.9))


@torch.no_grad()
def test_memory_of_tiles_does_not_grow_with_the_picture() -> None:
    vae, largest = make_vae(), {"numbers": 0}

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        largest["numbers"] = max(largest["numbers"], output.numel())

    for module in vae.decoder.modules():
        module.register_forward_hook(look)
    found = []
    for side in (32, 64, 96):
        largest["numbers"] = 0
        assert vae.decode_tiles(torch.randn(1, 2, side, side), tile=32, overlap=8).shape == (1, 3, 2 * side, 2 * side)
        found.append(largest["numbers"])
    assert max(found[1:]) <= found[0]


def test_latents_that_fit_a_tile_are_decoded_at_once_and_a_wide_overlap_is_refused() -> None:
    vae, latents = make_vae(), torch.randn(1, 2, 8, 12)
    assert torch.equal(vae.decode_tiles(latents, tile=12, overlap=4), vae.decode(latents))
    with pytest.raises(ConfigError, match="overlap=6"):
        vae.decode_tiles(latents, tile=12, overlap=6)
    with pytest.raises(ConfigError, match="15 x 16"):
        vae(torch.zeros(1, 3, 15, 16))
    with pytest.raises(ConfigError, match="num_groups=5"):
        AutoencoderKLConfig(num_groups=5)
