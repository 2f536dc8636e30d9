"""The Transformer: sizes of the paper, positions, what masks and residual connections do; parity is in
tests/interop/test_transformers_marian.py.
"""

import math

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.language.transformer import PRESETS, Transformer, TransformerConfig, example_batch, sinusoids


def tiny(**options: object) -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        **{
            "vocab_size": 31,
            "max_seq_len": 16,
            "d_model": 16,
            "num_encoder_layers": 2,
            "num_decoder_layers": 2,
            "num_heads": 2,
            "d_ff": 24,
            **options,
        }
    )
    return Transformer(config).double().eval()


@pytest.mark.parametrize(("preset", "millions"), [("transformer-base", 65), ("transformer-big", 213)])
def test_parameters_as_published(preset: str, millions: int) -> None:
    """Table 3 with its 37,000 shared tokens, in millions; the authors' code has no biases in attention."""
    config = PRESETS[preset]
    with torch.device("meta"):
        model = Transformer(TransformerConfig(**{**vars(config), "vocab_size": 37000}))
    count = sum(p.numel() for name, p in model.named_parameters() if not ("attn." in name and name.endswith("bias")))
    assert count / 1e6 == pytest.approx(millions, rel=0.04)


def test_positions_are_the_paper_s_equation() -> None:
    """PE(t, 2i) = sin(t / 10000^(2i / D)), PE(t, 2i + 1) = cos of the same; here the sines stand before the cosines."""
    found = sinusoids(11, 6)
    for t in range(11):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert float(found[t, i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(found[t, 3 + i]) == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_filling_of_the_source_changes_nothing(norm: str) -> None:
    """Float64: 1e-12."""
    model = tiny(norm=norm)
    source, tokens = torch.randint(31, (3, 5)), torch.randint(31, (3, 4))
    longer = torch.cat([source, torch.randint(31, (3, 3))], 1)
    mask = torch.arange(8).expand(3, -1) < 5
    with torch.no_grad():
        torch.testing.assert_close(model(longer, tokens, mask), model(source, tokens), rtol=1e-12, atol=1e-12)


def test_pre_norm_leaves_the_sum_as_it_is_and_post_norm_normalises_it() -> None:
    """With parts that add nothing, pre-norm carries the embedding through; post-norm's output has variance one."""
    for norm in ("pre", "post"):
        model = tiny(norm=norm)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("out_proj.weight", "fc2.weight")):
                    parameter.zero_()
            source = torch.randint(31, (2, 5))
            embedded = 4 * model.shared(source) + model.positions[:5]
            encoded = model.encode(source)
        if norm == "pre":
            wanted = torch.nn.functional.layer_norm(embedded, (16,))
            torch.testing.assert_close(encoded, wanted)
        else:
            torch.testing.assert_close(encoded.var(-1, correction=0), torch.ones(2, 5).double(), rtol=1e-3, atol=0)


def test_output_layer_is_the_embedding() -> None:
    model = tiny()
    assert not [name for name, _ in model.named_parameters() if "lm_head" in name]
    batch = example_batch(model.config, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = model.forward_features(**batch)
        torch.testing.assert_close(model(**batch), features @ model.shared.weight.T)


def test_output_bias_is_added_to_the_logits() -> None:
    model = tiny(output_bias=True)
    batch = example_batch(model.config, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(**batch)
        model.final_logits_bias[0, 7] = 2.5
        after = model(**batch)
    assert float((after - before)[..., 7].mean()) == pytest.approx(2.5)
    assert float((after - before)[..., 8].abs().max()) == 0


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ConfigError, match="17 tokens are more than max_seq_len=16"):
        tiny()(torch.zeros(1, 17, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_heads=3 must divide"):
        TransformerConfig(num_heads=3)
    with pytest.raises(ConfigError, match="vocab_size"):
        Transformer(TransformerConfig())


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_alignment_is_what_the_decoder_mixes_the_source_by(norm: str) -> None:
    """With one layer and one head: weights times values, behind the output projection, is what attention gives."""
    model = tiny(norm=norm, num_decoder_layers=1, num_heads=1)
    batch = example_batch(model.config, 3, torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    attention = model.decoder_layers[0].encoder_attn
    attention.out_proj.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    with torch.no_grad():
        weights = model.align(**batch)
        model(**batch)
        values = attention.v_proj(model.encode(batch["source"], batch["source_mask"]))
    torch.testing.assert_close(weights @ values, seen[-1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 6).double())
