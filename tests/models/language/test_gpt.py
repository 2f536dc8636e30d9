"""GPT-2: parity with transformers, cached = uncached, causality, sizes."""

import math

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.models.language.gpt import CARD, GPT, PRESETS, GPTConfig, example_batch

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
SMALL = GPTConfig(vocab_size=31, max_seq_len=24, d_model=24, num_layers=3, num_heads=4, dropout=0.0)


def random_gpt(config: GPTConfig = SMALL, dtype: torch.dtype = torch.float64) -> GPT:
    """Every parameter far from its initial value, so that biases and norms count."""
    torch.manual_seed(0)
    gpt = GPT(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.normal_(0.0, 0.3)
    return gpt


def tokens(batch: int = 2, length: int = 24, vocab_size: int = 31) -> Tensor:
    return torch.randint(vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_logits_equal_those_of_transformers(dtype: torch.dtype) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=31, n_positions=24, n_embd=24, n_layer=3, n_head=4, activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).to(dtype).eval()
    gpt = random_gpt(dtype=dtype)
    linear = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    state = {f"transformer.{n}": v.T if n.endswith(linear) else v for n, v in gpt.state_dict().items()}
    theirs.load_state_dict(
        {**state, "lm_head.weight": state["transformer.wte.weight"]}
    )  # strict: the names are the same
    with torch.no_grad():
        ours, reference = gpt(tokens()), theirs(tokens()).logits
    # The Frobenius ratio separates a wrong formula from rounding.
    assert float((ours - reference).norm() / reference.norm()) < (1e-9 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("parts", [[24], [1] * 24, [10, 1, 1, 5, 7], [23, 1]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cached_logits_equal_the_whole_pass(dtype: torch.dtype, parts: list[int]) -> None:
    gpt = random_gpt(dtype=dtype)
    with torch.no_grad():
        cache = gpt.init_cache(2)
        cached = torch.cat([gpt(part, cache=cache) for part in tokens().split(parts, dim=1)], dim=1)
        whole = gpt(tokens())
    scale = float(whole.abs().max())
    torch.testing.assert_close(cached / scale, whole / scale, atol=TOLERANCE[dtype], rtol=0)
    assert cache.position == 24


def test_future_tokens_do_not_change_the_past() -> None:
    gpt, first = random_gpt(), tokens()
    second = first.clone()
    second[:, 10:] = (second[:, 10:] + 1) % 31
    with torch.no_grad():
        a, b = gpt(first), gpt(second)
    torch.testing.assert_close(a[:, :10], b[:, :10], atol=1e-12, rtol=0)
    assert not torch.allclose(a[:, 10], b[:, 10])


def test_a_sample_does_not_depend_on_its_batch_mates() -> None:
    gpt = random_gpt()
    with torch.no_grad():
        torch.testing.assert_close(gpt(tokens())[1:], gpt(tokens()[1:]), atol=1e-12, rtol=0)


def test_the_head_is_the_embedding() -> None:
    gpt = random_gpt()
    assert not any("head" in name for name in gpt.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(gpt(tokens()), gpt.forward_features(tokens()) @ gpt.wte.weight.T, atol=1e-12, rtol=0)


# Radford et al. 2019, table 2, names the sizes 117M to 1542M; these exact counts are those of the released checkpoints,
# written out: V D + P D + L (12 D^2 + 13 D) + 2 D.
@pytest.mark.parametrize(
    ("name", "count"),
    [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-large", 774_030_080), ("gpt2-xl", 1_557_611_200)],
)
def test_presets_have_the_released_sizes(name: str, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in GPT(PRESETS[name]).parameters()) == count


def test_tiny_preset_is_under_a_million_and_every_parameter_gets_a_gradient() -> None:
    gpt = GPT(PRESETS["gpt2-tiny"])
    assert sum(p.numel() for p in gpt.parameters()) < 1_000_000
    batch = example_batch(PRESETS["gpt2-tiny"], 3, torch.Generator().manual_seed(0))
    gpt(**batch).logsumexp(-1).sum().backward()
    for name, parameter in gpt.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.abs().sum() > 0), name


def test_initial_deviations() -> None:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=1000, max_seq_len=64, d_model=128, num_layers=8, num_heads=4))
    state = gpt.state_dict()
    for name, deviation in (
        ("wte.weight", 0.02),
        ("h.3.mlp.c_fc.weight", 0.02),
        ("h.3.mlp.c_proj.weight", 0.02 / math.sqrt(16)),
        ("h.3.attn.c_proj.weight", 0.02 / math.sqrt(16)),
    ):
        assert float(state[name].std()) == pytest.approx(deviation, rel=0.02), name
    assert not bool(state["h.3.attn.c_attn.bias"].any())
    assert state["ln_f.weight"].unique().tolist() == [1]


def test_dropout_draws_in_training_only() -> None:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=31, max_seq_len=24, d_model=24, num_layers=1, num_heads=4, dropout=0.3))
    assert not torch.equal(gpt(tokens()), gpt(tokens()))
    gpt.eval()
    assert torch.equal(gpt(tokens()), gpt(tokens()))


def test_a_shorter_cache_is_allocated_when_asked_for() -> None:
    gpt = random_gpt()
    assert gpt.init_cache(2, 5).layers[0].keys.shape == (2, 4, 5, 6)
    assert gpt.init_cache(2, 500).max_seq_len == 24


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="num_heads=5 must divide d_model=24"):
        GPTConfig(d_model=24, num_heads=5)
    with pytest.raises(ConfigError, match="vocab_size and max_seq_len"):
        GPT(GPTConfig())
    with pytest.raises(ConfigError, match="25 tokens are more than max_seq_len=24"):
        random_gpt()(tokens(length=25))


def test_card_declares_the_cache() -> None:
    assert {"cache", "causal", "features", "generates"} <= set(CARD.capabilities)
