"""Beam search against all translations counted through, against transformers, and against itself without a cache."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.models.language.transformer import Transformer, TransformerConfig
from layerwise.nn.beam_search import BeamSearch, Hypothesis, beam_search, largest

START, STOP = 0, 1


class Table:
    """What a `Prefixes` remembers: the tokens of every hypothesis, and its sentence."""

    def __init__(self, rows: Tensor) -> None:
        self.tokens, self.sentence = torch.zeros(len(rows), 0, dtype=torch.int64), rows

    def reorder(self, rows: Tensor) -> None:
        self.tokens, self.sentence = self.tokens[rows], self.sentence[rows]


class Prefixes(nn.Module):
    """Logits drawn anew for every sentence and every prefix: nothing about them can be guessed."""

    max_seq_len = 16

    def __init__(self, vocabulary: int, sharpness: float = 1.0) -> None:
        super().__init__()
        self.vocabulary, self.sharpness = vocabulary, sharpness

    def init_decoding(
        self, source: Tensor, source_mask: Tensor | None = None, *, beams: int = 1, max_seq_len: int | None = None
    ) -> Table:
        return Table(source[:, 0].repeat_interleave(beams))

    def decode(self, tokens: Tensor, cache: Table) -> Tensor:
        cache.tokens = torch.cat([cache.tokens, tokens], dim=1)
        rows = [self.logits(int(s), t.tolist()) for s, t in zip(cache.sentence, cache.tokens, strict=True)]
        return torch.stack(rows)[:, None]

    def logits(self, sentence: int, prefix: list[int]) -> Tensor:
        seed = hash((sentence, *prefix)) % 2**31
        return self.sharpness * torch.randn(self.vocabulary, generator=torch.Generator().manual_seed(seed)).double()


def all_translations(model: Prefixes, sentence: int, length: int, penalty: float) -> list[tuple[float, list[int]]]:
    """Every sequence that ends with the stop token or has the full length, best first."""
    found: list[tuple[float, list[int]]] = []
    others = [token for token in range(model.vocabulary) if token != STOP]
    for size in range(1, length + 1):
        ends = range(model.vocabulary) if size == length else (STOP,)
        for head in itertools.product(others, repeat=size - 1):
            for last in ends:
                tokens = [*head, last]
                total = 0.0
                for i, token in enumerate(tokens):
                    total += float(model.logits(sentence, [START, *tokens[:i]]).log_softmax(0)[token])
                found.append((total / size**penalty, tokens))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("sentence", [3, 4, 5])
def test_a_wide_beam_finds_the_best_translations_of_all(sentence: int, penalty: float) -> None:
    """With room for every prefix nothing is lost: the search is a count through all (float64, 1e-12)."""
    model = Prefixes(4)
    search = BeamSearch(
        start_token=START, stop_token=STOP, beams=64, max_new_tokens=4, length_penalty=penalty, exhaustive=True
    )
    found = beam_search(model, torch.tensor([[sentence]]), None, search)[0]
    wanted = all_translations(model, sentence, 4, penalty)
    assert [h.tokens.tolist() for h in found[:20]] == [tokens for _, tokens in wanted[:20]]
    assert [h.score for h in found[:20]] == pytest.approx([score for score, _ in wanted[:20]], abs=1e-12)


def test_one_beam_takes_the_likeliest_token_every_time() -> None:
    model = Prefixes(6)
    search = BeamSearch(start_token=START, stop_token=STOP, beams=1, max_new_tokens=8)
    for sentence in range(5):
        prefix = [START]
        while len(prefix) < 9 and (len(prefix) == 1 or prefix[-1] != STOP):
            prefix.append(int(model.logits(sentence, prefix).argmax()))
        found = beam_search(model, torch.tensor([[sentence]]), None, search)[0]
        assert found[0].tokens.tolist() == prefix[1:]


def test_a_sentence_does_not_depend_on_its_batch_mates() -> None:
    """Exact: logits of this model are the same numbers in any batch. Sentences end at different steps."""
    model = Prefixes(6, sharpness=3.0)
    search = BeamSearch(start_token=START, stop_token=STOP, beams=3, max_new_tokens=12)
    together = beam_search(model, torch.arange(12)[:, None], None, search)
    for sentence in range(12):
        assert same(beam_search(model, torch.tensor([[sentence]]), None, search)[0], together[sentence])
    assert len({len(each[0].tokens) for each in together}) > 2


def same(a: list[Hypothesis], b: list[Hypothesis]) -> bool:
    return [(h.tokens.tolist(), h.score) for h in a] == [(h.tokens.tolist(), h.score) for h in b]


def test_score_is_log_probability_by_a_power_of_the_length() -> None:
    search = BeamSearch(start_token=START, stop_token=STOP, beams=3, max_new_tokens=6, length_penalty=0.7)
    for hypothesis in beam_search(Prefixes(5), torch.tensor([[1]]), None, search)[0]:
        length = len(hypothesis.tokens)
        assert hypothesis.score == pytest.approx(hypothesis.log_probability / length**0.7, abs=1e-12)


def test_tokens_that_are_never_written() -> None:
    """They keep their share: log-probabilities are the network's own (float64, 1e-12)."""
    search = BeamSearch(start_token=START, stop_token=STOP, beams=4, max_new_tokens=4, never=(2, 3))
    model = Prefixes(5)
    found = beam_search(model, torch.arange(6)[:, None], None, search)
    assert not {2, 3} & {token for each in found for h in each for token in h.tokens.tolist()}
    for sentence, each in enumerate(found):
        totals = {tuple(tokens): total for total, tokens in all_translations(model, sentence, 4, 0.0)}
        for hypothesis in each:
            assert hypothesis.log_probability == pytest.approx(totals[tuple(hypothesis.tokens.tolist())], abs=1e-12)


def network() -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=23,
        max_seq_len=24,
        d_model=16,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_heads=2,
        d_ff=32,
        output_bias=True,
    )
    model = Transformer(config).double().eval()
    with torch.no_grad():
        model.shared.weight.mul_(3)  # far from uniform, so that translations differ
        model.final_logits_bias[0, STOP] = 1.5  # and end
    return model


def sources() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(2, 23, (7, 9), generator=generator)
    return source, torch.arange(9) < torch.randint(2, 10, (7, 1), generator=generator)


def test_cached_search_equals_one_that_reads_everything_anew() -> None:
    """Float64, 1e-9: products of other shapes are rounded otherwise."""

    class Uncached(nn.Module):
        def __init__(self, model: Transformer) -> None:
            super().__init__()
            self.model, self.max_seq_len = model, model.max_seq_len

        def init_decoding(self, source: Tensor, source_mask: Tensor, *, beams: int, max_seq_len: int) -> Table:
            self.source, self.mask = source, source_mask
            return Table(torch.arange(len(source)).repeat_interleave(beams))

        def decode(self, tokens: Tensor, cache: Table) -> Tensor:
            cache.tokens = torch.cat([cache.tokens, tokens], dim=1)
            return self.model(self.source[cache.sentence], cache.tokens, self.mask[cache.sentence])[:, -1:]

    search = BeamSearch(start_token=START, stop_token=STOP, beams=4, max_new_tokens=12)
    cached, uncached = (beam_search(each, *sources(), search) for each in (network(), Uncached(network())))
    for one, other in zip(cached, uncached, strict=True):
        assert [h.tokens.tolist() for h in one] == [h.tokens.tolist() for h in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-9)
    assert len({len(each[0].tokens) for each in cached}) > 1


def test_real_model_translates_a_sentence_alone_as_in_a_batch() -> None:
    search = BeamSearch(start_token=START, stop_token=STOP, beams=4, max_new_tokens=12)
    source, mask = sources()
    together = beam_search(network(), source, mask, search)
    for i in range(len(source)):
        length = int(mask[i].sum())
        alone = beam_search(network(), source[i : i + 1, :length], None, search)[0]
        assert [h.tokens.tolist() for h in alone] == [h.tokens.tolist() for h in together[i]]


def test_training_mode_and_gradients_are_left_as_they_were() -> None:
    model = network().train()
    search = BeamSearch(start_token=START, stop_token=STOP, beams=2, max_new_tokens=3)
    beam_search(model, *sources(), search)
    assert model.training
    assert torch.is_grad_enabled()


def test_no_sentences_give_no_translations() -> None:
    search = BeamSearch(start_token=START, stop_token=STOP)
    assert beam_search(Prefixes(5), torch.zeros(0, 3, dtype=torch.int64), None, search) == []


def test_sentences_without_tokens_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one token"):
        beam_search(Prefixes(5), torch.zeros(2, 0, dtype=torch.int64), None, BeamSearch(start_token=0, stop_token=1))


def test_a_network_without_an_encoder_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="init_decoding"):
        beam_search(
            nn.Linear(2, 2), torch.zeros(1, 2, dtype=torch.int64), None, BeamSearch(start_token=0, stop_token=1)
        )


def test_infinite_scores_are_no_translations() -> None:
    """More beams than there are different prefixes: what has probability zero is never finished."""
    search = BeamSearch(start_token=START, stop_token=STOP, beams=8, max_new_tokens=1)
    found = beam_search(Prefixes(3), torch.tensor([[0]]), None, search)[0]
    assert len(found) == 3
    assert all(math.isfinite(h.score) for h in found)


@pytest.mark.parametrize("size", [3, 700, 2049, 5000])
@pytest.mark.parametrize("count", [1, 8])
def test_the_largest_values_are_those_of_topk(size: int, count: int) -> None:
    """Rows shorter than `count`, with a rest behind the last whole block, and with minus infinity in them."""
    values = torch.randn(5, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    values[0, 1:] = -torch.inf
    found, places = largest(values, count)
    expected = values.sort(dim=1, descending=True).values[:, : min(count, size)]
    assert torch.equal(found, expected)
    assert torch.equal(values.gather(1, places), expected)
    assert all(len(set(row)) == len(row) for row in places.tolist())
