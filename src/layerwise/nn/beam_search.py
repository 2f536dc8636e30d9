"""Beam search for models that write a target while they read a source: the likeliest translations found side by side.

Graves 2012, "Sequence transduction with recurrent neural networks" (arXiv:1211.3711), section 3; the length penalty is
a power of the length, as in Jean et al. 2015 and in Marian.

Hypotheses of one sentence never look at another's, so a result does not depend on batch mates. The source is kept once
a sentence, and a sentence that is done leaves the batch.

Shapes: B sentences, K beams, S source tokens, V vocabulary.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import EncoderDecoder, require

_BLOCK = 256  # tokens that are looked at together when the likeliest are sought


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """How translations are searched.

    Args:
        start_token: what the decoder reads first.
        stop_token: a translation ends with it.
        beams: hypotheses kept; 1 takes the likeliest token every time.
        max_new_tokens: tokens at most, the stop token included; a hypothesis of this length counts as ended.
        length_penalty: exponent: hypotheses are ranked by log p / length^penalty, the stop token counted; 0 ranks by
            probability, larger values favour longer ones.
        exhaustive: go on until no hypothesis can become better than the worst one kept; False compares with what it
            would have at its present length, which is faster and what most toolkits do.
        never: tokens that are never written (filling); they keep their share of the probability, as in transformers.
    """

    start_token: int
    stop_token: int
    beams: PositiveInt = 5
    max_new_tokens: PositiveInt = 128
    length_penalty: float = 1.0
    exhaustive: bool = False
    never: tuple[int, ...] = ()


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation.

    Args:
        tokens: int64 [T], with the stop token where it came to one, without the start token.
        log_probability: sum over its tokens.
        score: what it was ranked by.
    """

    tokens: Tensor
    log_probability: float
    score: float


@torch.inference_mode()
def beam_search(
    network: nn.Module,
    source: Int[Tensor, "B S"],
    source_mask: Bool[Tensor, "B S"] | None,
    search: BeamSearch,
) -> list[list[Hypothesis]]:
    """Up to `beams` translations of every sentence, best first.

    In each step every hypothesis is extended by every token and the best 2 K extensions are looked at: the best K that
    go on are kept, and those among the best K that end with the stop token are finished.

    Args:
        network: an encoder-decoder (`nn.protocols.EncoderDecoder`), put into eval mode meanwhile.
        source, source_mask: sentences; True where there is a token.
        search: settings.

    Raises:
        UnsupportedError: the network is no encoder-decoder.
        ConfigError: no sentence has a token.
    """
    model = require(network, EncoderDecoder, "beam search")
    if source.dim() != 2 or source.shape[1] == 0:
        raise ConfigError(f"beam search needs sentences [B, S] of at least one token, got {tuple(source.shape)}")
    if len(source) == 0:
        return []
    steps = min(search.max_new_tokens, model.max_seq_len)
    training = network.training
    network.eval()
    try:
        state = _Beams(len(source), search, steps, source.device)
        cache = model.init_decoding(source, source_mask, beams=search.beams, max_seq_len=steps)
        for _ in range(steps):
            logits = model.decode(state.last_tokens(), cache)[:, -1]
            rows = state.advance(logits)
            if not len(rows):
                break
            if search.beams > 1 or len(rows) < len(logits):
                cache.reorder(rows)
    finally:
        network.train(training)
    return [sorted(each, key=lambda h: -h.score) for each in state.finished]


def largest(values: Float[Tensor, "N V"], count: int) -> tuple[Tensor, Tensor]:
    """Each row's `count` largest values in order (all where V is smaller) and their places, as `topk` gives them.

    They are in those blocks of a row whose own largest values are among the `count` largest, so that few values have
    to be sorted.
    """
    rows, size = values.shape
    count = min(count, size)
    blocks = size // _BLOCK
    if blocks <= count:
        return values.topk(count, dim=1)
    parts = values[:, : blocks * _BLOCK].unflatten(1, (blocks, _BLOCK))
    chosen = parts.amax(2).topk(count, dim=1).indices  # [N, count]
    inside = parts.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    within = torch.arange(_BLOCK, device=values.device)
    places = (chosen[:, :, None] * _BLOCK + within).flatten(1)
    rest = torch.arange(blocks * _BLOCK, size, device=values.device).expand(rows, -1)
    found, index = torch.cat([inside, values[:, blocks * _BLOCK :]], dim=1).topk(count, dim=1)
    return found, torch.cat([places, rest], dim=1).gather(1, index)


class _Beams:
    """Hypotheses of the sentences that still go on.

    `tokens` [B, K, t], `scores` (log-probabilities) [B, K] and `sentences` [B], their places in the whole batch;
    `finished` has the translations of every sentence of the whole batch.
    """

    def __init__(self, batch: int, search: BeamSearch, steps: int, device: torch.device) -> None:
        self.search, self.steps = search, steps
        self.sentences = torch.arange(batch, device=device)
        self.tokens = torch.full((batch, search.beams, 1), search.start_token, dtype=torch.int64, device=device)
        # All hypotheses are the same at first: only one of them may be extended.
        self.scores = torch.full((batch, search.beams), -torch.inf, device=device)
        self.scores[:, 0] = 0.0
        self.finished: list[list[Hypothesis]] = [[] for _ in range(batch)]

    def last_tokens(self) -> Tensor:
        """The newest token of every hypothesis, [B K, 1]."""
        return self.tokens[:, :, -1].reshape(-1, 1)

    def advance(self, logits: Float[Tensor, "N V"]) -> Tensor:
        """Extend by one token; which row of the old hypotheses each of the new ones continues, [B' K].

        Sentences that are done leave; none is left where the result is empty.
        """
        batch, beams = self.scores.shape
        length = self.tokens.shape[2]  # of the extensions, without the start token
        log_p, tokens = self._likeliest(logits, 2 * beams)  # of each hypothesis: no others can be among all of theirs
        total = (log_p.view(batch, beams, -1) + self.scores.to(log_p.dtype)[:, :, None]).flatten(1)
        best, place = total.topk(min(2 * beams, total.shape[1]), dim=1)
        parent, token = place // log_p.shape[1], tokens.view(batch, -1).gather(1, place)
        ends = torch.full_like(token, length == self.steps, dtype=torch.bool) | (token == self.search.stop_token)
        self._finish(best, parent, token, ends, length)
        # The best that go on, in order: those that end come last.
        keep = torch.where(ends, -torch.inf, best).topk(beams, dim=1).indices
        self.scores = torch.where(ends, -torch.inf, best).gather(1, keep)
        parent, token = parent.gather(1, keep), token.gather(1, keep)
        grown = self.tokens.gather(1, parent[:, :, None].expand(-1, -1, length))
        self.tokens = torch.cat([grown, token[:, :, None]], dim=2)
        going = self._going_on(length)
        rows = (torch.arange(batch, device=parent.device)[:, None] * beams + parent)[going].flatten()
        self.scores, self.tokens, self.sentences = self.scores[going], self.tokens[going], self.sentences[going]
        return rows

    def _likeliest(self, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities, in float32 at least on purpose, of each row's `count` likeliest tokens, and the tokens."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        total = logits.logsumexp(1, keepdim=True)
        if self.search.never:
            logits = logits.index_fill(1, torch.tensor(self.search.never, device=logits.device), -torch.inf)
        values, tokens = largest(logits, count)
        return values - total, tokens

    def _rank(self, log_probability: float, length: int) -> float:
        return log_probability / length**self.search.length_penalty

    def _finish(self, best: Tensor, parent: Tensor, token: Tensor, ends: Tensor, length: int) -> None:
        """Take over the extensions that end, of the best K; a sentence keeps its best K translations."""
        beams = self.search.beams
        ending = ends[:, :beams] & (best[:, :beams] > -torch.inf)
        for row, column in ending.nonzero().tolist():
            value = float(best[row, column])
            kept = self.finished[int(self.sentences[row])]
            text = torch.cat([self.tokens[row, parent[row, column], 1:], token[row, column : column + 1]])
            kept.append(Hypothesis(text, value, self._rank(value, length)))
            kept.sort(key=lambda h: -h.score)
            del kept[beams:]

    def _going_on(self, length: int) -> Tensor:
        """Which sentences have hypotheses that may still become better than the worst translation kept, bool [B]."""
        search = self.search
        reached = self.steps if search.exhaustive and search.length_penalty > 0 else length
        going: list[bool] = []
        for sentence, score in zip(self.sentences.tolist(), self.scores[:, 0].tolist(), strict=True):
            kept = self.finished[sentence]
            full = len(kept) == search.beams
            going.append(score > -torch.inf and (not full or self._rank(score, reached) > kept[-1].score))
        return torch.tensor(going, dtype=torch.bool, device=self.scores.device)
