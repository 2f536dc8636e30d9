"""Published scalings of rotary embeddings against transformers, and options that do not belong together."""

from typing import Any

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.nn.rope import RoPEConfig, rope_frequencies, rope_table

SHORT = tuple(1.0 + 0.01 * i for i in range(16))
LONG = tuple(1.0 + 0.5 * i for i in range(16))
# Ours, theirs.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": ({"factor": 4.0}, {"factor": 4.0}),
    "dynamic": ({"factor": 2.0, "trained_len": 512}, {"factor": 2.0}),
    "yarn": ({"factor": 4.0, "trained_len": 512}, {"factor": 4.0, "original_max_position_embeddings": 512}),
    "yarn, its own ends": (
        {"factor": 8.0, "trained_len": 256, "fast": 16.0, "slow": 2.0, "attention_factor": 1.3},
        {
            "factor": 8.0,
            "original_max_position_embeddings": 256,
            "beta_fast": 16.0,
            "beta_slow": 2.0,
            "attention_factor": 1.3,
        },
    ),
    "yarn, as DeepSeek": (
        {"factor": 40.0, "trained_len": 4096, "scale": 0.7, "scale_all": 0.9, "truncate": False},
        {
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "mscale": 0.7,
            "mscale_all_dim": 0.9,
            "truncate": False,
        },
    ),
    "llama3": (
        {"factor": 8.0, "trained_len": 512, "low": 1.0, "high": 4.0},
        {"factor": 8.0, "original_max_position_embeddings": 512, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ),
    "longrope": (
        {"factor": 8.0, "trained_len": 512, "short_factors": SHORT, "long_factors": LONG},
        {
            "factor": 8.0,
            "original_max_position_embeddings": 512,
            "short_factor": list(SHORT),
            "long_factor": list(LONG),
        },
    ),
}


@pytest.mark.parametrize("seq_len", [100, 512, 513, 3000])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_scalings_equal_those_of_transformers(name: str, seq_len: int, theta: float) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    ours, theirs = CASES[name]
    kind = name.split(",")[0]
    reference = transformers.LlamaConfig(
        hidden_size=128,
        num_attention_heads=4,
        max_position_embeddings=512,
        rope_parameters={"rope_type": kind, "rope_theta": theta, **theirs},
    )
    wanted, wanted_factor = ROPE_INIT_FUNCTIONS[kind](reference, torch.device("cpu"), seq_len=seq_len)
    got, factor = rope_frequencies(RoPEConfig(scaling=kind, theta=theta, **ours), 32, seq_len)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(torch.tensor(got), wanted, atol=1e-6, rtol=1e-6)
    assert factor == pytest.approx(wanted_factor, abs=1e-6)


def test_without_scaling_it_is_llama_s() -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    from layerwise.ops.rope import rotate

    rotary = LlamaRotaryEmbedding(transformers.LlamaConfig(hidden_size=64, num_attention_heads=4))
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 4, 9, 16)
    wanted = apply_rotary_pos_emb(q, k, *rotary(q, torch.arange(9)[None]))
    cos, sin = rope_table(RoPEConfig(), 16, torch.arange(9), 9)
    for got, want in zip((rotate(q, cos, sin), rotate(k, cos, sin)), wanted, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_the_rotated_share_counts_numbers_of_a_head() -> None:
    frequencies, _ = rope_frequencies(RoPEConfig(rotated_share=0.25), 64, 10)
    assert frequencies == pytest.approx([1e4 ** (-2 * i / 16) for i in range(8)])
    with pytest.raises(ConfigError, match="must be even"):
        rope_frequencies(RoPEConfig(rotated_share=0.5), 6, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scaling": "linear"}, "needs factor"),
        ({"scaling": "yarn", "factor": 2.0}, "needs trained_len"),
        ({"factor": 2.0}, "scaling=none does not read factor"),
        ({"scaling": "linear", "factor": 2.0, "fast": 2.0}, "does not read fast"),
        ({"scaling": "yarn", "factor": 2.0, "trained_len": 8, "scale": 1.0}, "belong together"),
    ],
)
def test_options_that_do_not_belong_together_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RoPEConfig(**options)


def test_longrope_factors_are_one_a_pair() -> None:
    config = RoPEConfig(scaling="longrope", factor=2.0, trained_len=8, short_factors=(1.0,), long_factors=(2.0,))
    with pytest.raises(ConfigError, match="1 factors: one for each of the 4 pairs"):
        rope_frequencies(config, 8, 4)
