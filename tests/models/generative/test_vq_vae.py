"""VQ-VAE: what its card says and the general contract do not cover."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.generative.vq_vae import PRESETS, VQVAE, VQVAEConfig, nearest_entries
from layerwise.ops.random import Draws


def make_vq_vae() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(PRESETS["vq-vae-tiny"]).double().eval()


def test_nearest_entry_is_that_of_a_loop_over_distances() -> None:
    vectors, codebook = torch.randn(40, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    wanted = [min(range(6), key=lambda k: float((v - codebook[k]).square().sum())) for v in vectors]
    assert nearest_entries(vectors, codebook).tolist() == wanted


def test_gradient_of_what_is_decoded_reaches_the_vectors_unchanged() -> None:
    """Straight through: d loss / d z_e is d loss / d z_q at the entries."""
    net = make_vq_vae()
    vectors = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    quantised, codes = net.quantise(vectors)
    assert torch.allclose(quantised, net.codebook[codes], rtol=0, atol=1e-12)
    net.decode_vectors(quantised).square().sum().backward()
    entries = net.codebook[codes].clone().requires_grad_(True)
    net.decode_vectors(entries).square().sum().backward()
    assert vectors.grad is not None
    torch.testing.assert_close(vectors.grad, entries.grad, rtol=1e-10, atol=1e-12)
    assert float(vectors.grad.abs().sum()) > 0


def test_codes_decode_to_what_forward_reconstructs() -> None:
    net, images = make_vq_vae(), torch.rand(3, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        found = net(images)
        assert torch.equal(net.encode(images), found.codes)
        torch.testing.assert_close(
            net.decode(found.codes).sigmoid().float(), found.reconstruction, rtol=1e-6, atol=1e-6
        )


def test_prior_sees_only_the_codes_before() -> None:
    net, codes = make_vq_vae(), torch.tensor([[1, 2, 3, 4], [1, 2, 5, 4]])
    with torch.no_grad():
        logits = net.code_logits(codes)
    assert logits.shape == (2, 4, 6)
    torch.testing.assert_close(logits[0, :3], logits[1, :3], rtol=1e-12, atol=1e-12)
    assert not torch.equal(logits[0, 3], logits[1, 3])


def test_drawn_codes_follow_the_priors_probabilities() -> None:
    """20,000 grids: the share of the first code is its probability, and that of the second given the first."""
    net, ids = make_vq_vae(), torch.arange(20_000)
    with torch.no_grad():
        for parameter in net.prior.parameters():
            parameter.mul_(3.0)
        drawn = net.draw_codes(ids, Draws(0, "here"))
        first = net.code_logits(torch.zeros(1, 4, dtype=torch.int64))[0, 0].softmax(0)
        head = int(first.argmax())
        second = net.code_logits(torch.full((1, 4), head))[0, 1].softmax(0)
    assert drawn.shape == (20_000, 4)
    shares = torch.bincount(drawn[:, 0], minlength=6).double() / 20_000
    torch.testing.assert_close(shares, first, rtol=0, atol=0.015)  # four standard errors of one half
    following = drawn[drawn[:, 0] == head, 1]
    assert len(following) > 2_000
    shares = torch.bincount(following, minlength=6).double() / len(following)
    torch.testing.assert_close(shares, second, rtol=0, atol=0.045)


def test_a_drawn_picture_depends_on_its_own_id_alone() -> None:
    net, draws, ids = make_vq_vae(), Draws(0, "here"), torch.tensor([5, 9, 2])
    with torch.no_grad():
        made, alone = net.sample_pictures(ids, draws), net.sample_pictures(ids[1:2], draws)
    assert made.shape == (3, 1, 8, 8)
    torch.testing.assert_close(alone[0], made[1], rtol=1e-6, atol=1e-6)


def test_sizes_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(ConfigError, match="divisible by 4"):
        VQVAEConfig(image_size=(30, 28))
    with pytest.raises(ConfigError, match="image_size"):
        VQVAE(VQVAEConfig(in_channels=1))
