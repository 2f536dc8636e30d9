"""Seq2Seq: the papers' equations in a loop, masks, and what the decoder remembers."""

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.models.language.seq2seq import Memory, Seq2Seq, Seq2SeqConfig, example_batch


def tiny(**options: object) -> Seq2Seq:
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "max_seq_len": 16, "d_model": 6, "hidden_size": 5, "dropout": 0.0}
    return Seq2Seq(Seq2SeqConfig(**{**sizes, **options})).double().eval()


def memory(model: Seq2Seq, batch: int = 2) -> Memory:
    values = torch.randn(batch, 4, 10).double()
    mask = torch.arange(4) < torch.tensor([[4], [2]])
    return Memory(values, model.decoder.keys(values), mask)


def gru(cell: torch.nn.Module, x: Tensor, h: Tensor, ending: str = "") -> Tensor:
    """Cho et al. 2014, equations 5 to 8, as torch orders the gates: reset, update, new."""
    named = {n.removesuffix(ending): p for n, p in cell.named_parameters()}
    given = named["weight_ih"] @ x + named["bias_ih"]
    kept = named["weight_hh"] @ h + named["bias_hh"]
    (r_x, z_x, n_x), (r_h, z_h, n_h) = given.chunk(3), kept.chunk(3)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    return (1 - z) * torch.tanh(n_x + r * n_h) + z * h


@torch.no_grad()
def test_bahdanau_s_decoder_is_the_paper_s_equations() -> None:
    """Section 3.1 and appendix A, one sentence and one step at a time (float64, 1e-12)."""
    model = tiny(attention="bahdanau")
    decoder, source = model.decoder, memory(model)
    y, start = torch.randn(2, 3, 6).double(), torch.randn(1, 2, 5).double()
    found, (last,), weights = decoder(y, (start,), source)
    for b in range(2):
        s, length = start[0, b], int(source.mask[b].sum())
        for t in range(3):
            e = [
                decoder.score.weight[0] @ torch.tanh(decoder.query.weight @ s + decoder.keys(source.values[b, j]))
                for j in range(length)
            ]
            a = torch.stack(e).exp() / torch.stack(e).exp().sum()
            c = sum(a[j] * source.values[b, j] for j in range(length))
            s = gru(decoder.cell, torch.cat([y[b, t], c]), s)
            out = torch.tanh(decoder.combine(torch.cat([s, c, y[b, t]])))
            torch.testing.assert_close(weights[b, t, :length], a, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(found[b, t], out, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(last[0, b], s, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_luong_s_decoder_is_the_paper_s_equations() -> None:
    """Equations 5, 7 and 8 with the score "general" (float64, 1e-12)."""
    model = tiny()
    decoder, source = model.decoder, memory(model)
    y, start = torch.randn(2, 3, 6).double(), torch.randn(1, 2, 5).double()
    found, (last,), weights = decoder(y, (start,), source)
    for b in range(2):
        h, length = start[0, b], int(source.mask[b].sum())
        for t in range(3):
            h = gru(decoder.rnn, y[b, t], h, "_l0")
            score = torch.stack([h @ decoder.keys.weight @ source.values[b, j] for j in range(length)])
            a = score.exp() / score.exp().sum()
            c = sum(a[j] * source.values[b, j] for j in range(length))
            torch.testing.assert_close(weights[b, t, :length], a, rtol=1e-12, atol=1e-12)
            out = torch.tanh(decoder.combine.weight @ torch.cat([c, h]))
            torch.testing.assert_close(found[b, t], out, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(last[0, b], h, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"cell": "lstm", "num_layers": 2}, {"attention": "bahdanau"}])
def test_filling_of_the_source_changes_nothing(options: dict[str, object]) -> None:
    """Both directions of the encoder end and begin at the text's own tokens (float64, 1e-12)."""
    model = tiny(**options)
    source, tokens = torch.randint(31, (3, 5)), torch.randint(31, (3, 4))
    longer = torch.cat([source, torch.randint(31, (3, 3))], 1)
    mask = torch.arange(8).expand(3, -1) < 5
    with torch.no_grad():
        torch.testing.assert_close(model(longer, tokens, mask), model(source, tokens), rtol=1e-12, atol=1e-12)
        assert float(model.align(longer, tokens, mask)[:, :, 5:].abs().max()) == 0


@pytest.mark.parametrize("options", [{}, {"attention": "bahdanau"}])
def test_alignment_rows_sum_to_one(options: dict[str, object]) -> None:
    model = tiny(**options)
    weights = model.align(**example_batch(model.config, 4, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 6).double())


def test_settings_that_contradict_bahdanau_are_refused() -> None:
    with pytest.raises(ConfigError, match="attention=bahdanau"):
        Seq2SeqConfig(attention="bahdanau", cell="lstm")
    with pytest.raises(ConfigError, match="vocab_size"):
        Seq2Seq(Seq2SeqConfig())
