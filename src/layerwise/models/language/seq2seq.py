"""Sequence to sequence with attention: a bidirectional recurrent encoder, and a decoder that looks back at it.

Bahdanau, Cho, Bengio 2014, "Neural machine translation by jointly learning to align and translate",
https://arxiv.org/abs/1409.0473 (additive attention, asked before each step); Luong, Pham, Manning 2015, "Effective
approaches to attention-based neural machine translation", https://arxiv.org/abs/1508.04025 (global attention of form
"general", asked after each step).
Encoder and decoder without attention: Sutskever, Vinyals, Le 2014, https://arxiv.org/abs/1409.3215.

Differs from the papers: source and target share one table of subwords, which is also the output layer, behind a linear
layer and tanh where Bahdanau et al. have maxout. Luong's decoder is not fed its last attention vector ("input
feeding"), so that in training all steps are one call of the recurrent network; its encoder is bidirectional.

Shapes: B sentences, S source tokens, T target tokens, N hypotheses (a multiple of B), D embedding width, H hidden
units, M = 2 H width of the source's representation, V vocabulary, L layers.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.cache import RecurrentDecoderCache
from layerwise.nn.dropout import Dropout
from layerwise.nn.init import Init, initialise
from layerwise.nn.tied_output import TiedOutput

State = tuple[Tensor, ...]  # hidden [L, N, H], for an LSTM also the cells


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig:
    """Sizes of an encoder-decoder with attention.

    Args:
        vocab_size: tokens of source and target together; None is taken from the data.
        max_seq_len: tokens of a translation at most.
        attention: "luong" asks after each step of the decoder, "bahdanau" before it.
        cell: of encoder and decoder; Bahdanau's decoder is a GRU.
        d_model: width of the embedding.
        hidden_size: units of the decoder, and of each direction of the encoder.
        num_layers: of both; Bahdanau's decoder has one.
        dropout: probability of dropping an element of an embedding, between layers and before the output, in training.
    """

    vocab_size: PositiveInt | None = None
    max_seq_len: PositiveInt = 512
    attention: Literal["luong", "bahdanau"] = "luong"
    cell: Literal["gru", "lstm"] = "gru"
    d_model: PositiveInt = 256
    hidden_size: PositiveInt = 512
    num_layers: PositiveInt = 1
    dropout: Probability = 0.3

    def __post_init__(self) -> None:
        if self.attention == "bahdanau" and (self.cell != "gru" or self.num_layers != 1):
            raise ConfigError("attention=bahdanau: its decoder is a GRU of one layer; set cell=gru and num_layers=1")


class Memory(NamedTuple):
    """The source as a decoder reads it.

    Args:
        values: [B, S, M], what attention mixes.
        keys: [B, S, H or M], what queries are compared with.
        mask: bool [B, S], where there is a token.
    """

    values: Tensor
    keys: Tensor
    mask: Tensor


def _recurrent(config: Seq2SeqConfig, width: int, *, bidirectional: bool = False) -> nn.GRU | nn.LSTM:
    kind = nn.GRU if config.cell == "gru" else nn.LSTM
    between = config.dropout if config.num_layers > 1 else 0.0
    return kind(
        width, config.hidden_size, config.num_layers, batch_first=True, dropout=between, bidirectional=bidirectional
    )


def _softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Weights over the source [B, Q, S], in float32 at least on purpose, from scores of Q queries a sentence."""
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return wide.masked_fill(~mask[:, None], -torch.inf).softmax(-1)


class LuongDecoder(nn.Module):
    """h_t = RNN(y_{t-1}, h_{t-1}); a_t = softmax(h_t W_a s); o_t = tanh(W_c [sum_s a_t s; h_t]) (equations 5, 7, 8)."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.rnn = _recurrent(config, config.d_model)
        self.keys = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.combine = nn.Linear(3 * config.hidden_size, config.d_model, bias=False)

    def forward(self, embedded: Float[Tensor, "N T D"], state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """Outputs [N, T, D], the state after the last step, weights [N, T, S]."""
        given = state[0] if len(state) == 1 else state
        hidden, after = self.rnn(embedded, given)
        batch = len(memory.values)
        query = hidden.reshape(batch, -1, hidden.shape[-1])  # [B, N / B * T, H]: hypotheses share their sentence
        weights = _softmax(query.to(memory.keys.dtype) @ memory.keys.mT, memory.mask)
        mixed = (weights.to(memory.values.dtype) @ memory.values).view(*hidden.shape[:2], -1)
        found = torch.tanh(self.combine(torch.cat([mixed, hidden.to(mixed.dtype)], dim=-1)))
        return found, after if isinstance(after, tuple) else (after,), weights.view(*hidden.shape[:2], -1)


class BahdanauDecoder(nn.Module):
    """a_t = softmax(v tanh(W s_{t-1} + U h)); c_t = sum_h a_t h; s_t = GRU([y_{t-1}; c_t], s_{t-1}) (section 3.1);
    out_t = tanh(W_o [s_t; c_t; y_{t-1}]).
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        memory, hidden = 2 * config.hidden_size, config.hidden_size
        self.keys = nn.Linear(memory, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.cell = nn.GRUCell(config.d_model + memory, hidden)
        self.combine = nn.Linear(hidden + memory + config.d_model, config.d_model)

    def forward(self, embedded: Float[Tensor, "N T D"], state: State, memory: Memory) -> tuple[Tensor, State, Tensor]:
        """Outputs [N, T, D], the state after the last step, weights [N, T, S]."""
        hidden, batch = state[0][0], len(memory.values)
        states, mixtures, weights = list[Tensor](), list[Tensor](), list[Tensor]()
        for y in embedded.unbind(1):
            query = self.query(hidden).view(batch, -1, 1, hidden.shape[-1])  # [B, N / B, 1, H]
            scores = self.score(torch.tanh(query + memory.keys[:, None])).squeeze(-1)  # [B, N / B, S]
            weight = _softmax(scores, memory.mask)
            mixed = (weight.to(memory.values.dtype) @ memory.values).flatten(0, 1)  # [N, M]
            hidden = self.cell(torch.cat([y, mixed.to(y.dtype)], dim=-1), hidden)
            states.append(hidden)
            mixtures.append(mixed.to(y.dtype))
            weights.append(weight.flatten(0, 1))
        joined = torch.cat([torch.stack(states, 1), torch.stack(mixtures, 1), embedded], dim=-1)
        return torch.tanh(self.combine(joined)), (hidden[None],), torch.stack(weights, 1)


_DECODERS = {"luong": LuongDecoder, "bahdanau": BahdanauDecoder}


class Seq2Seq(nn.Module):
    """Logits of the next target token at every position, given the source.

    Args:
        config: sizes; `vocab_size` must be set.

    Shape:
        source: int64 [B, S]; source_mask: bool [B, S], True where there is a token, filling at the end; tokens: int64
        [B, T], the target behind a start token; logits: [B, T, V].

    Raises:
        ConfigError: `vocab_size` is not set.

    Example:
        >>> model = Seq2Seq(Seq2SeqConfig(vocab_size=99, d_model=16, hidden_size=8))
        >>> model(torch.zeros(1, 7, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)).shape
        torch.Size([1, 5, 99])
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        if config.vocab_size is None:
            raise ConfigError("Seq2Seq needs vocab_size: give it, or train on data that tells it")
        self.config, self.max_seq_len = config, config.max_seq_len
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = _recurrent(config, config.d_model, bidirectional=True)
        self.bridge = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.decoder = _DECODERS[config.attention](config)
        self.drop, self.output = Dropout(config.dropout), TiedOutput()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Recurrent matrices orthogonal (Bahdanau et al., appendix B.1), others Glorot-uniform, embeddings normal."""
        rules = {
            "*bias*": Init("zeros"),
            "shared.weight": Init("normal", self.config.d_model**-0.5),
            "*weight_hh*": Init("orthogonal"),
            "*": Init("glorot_uniform"),
        }
        initialise(self, rules)

    @property
    def output_embedding(self) -> nn.Embedding:
        """The tokens' table, which is also the last layer."""
        return self.shared

    def encode(
        self, source: Int[Tensor, "B S"], source_mask: Bool[Tensor, "B S"] | None = None
    ) -> tuple[Memory, State]:
        """The source for the decoder, and the state that the decoder starts from."""
        embedded = self.drop(self._scaled(source))
        if source_mask is None:
            hidden, last = self.encoder(embedded)
            source_mask = torch.ones_like(source, dtype=torch.bool)
        else:
            lengths = source_mask.sum(1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
            hidden, last = self.encoder(packed)
            hidden, _ = nn.utils.rnn.pad_packed_sequence(hidden, batch_first=True, total_length=source.shape[1])
        values = self.drop(hidden)
        ends = (last[0],) if isinstance(last, tuple) else (last,)
        both = [torch.cat([end[0::2], end[1::2]], dim=-1) for end in ends]  # [L, B, 2 H], both directions
        state = [torch.tanh(self.bridge(each)).to(embedded.dtype) for each in both]
        if isinstance(last, tuple):
            state.append(torch.zeros_like(state[0]))  # an LSTM's cells start empty
        return Memory(values, self.decoder.keys(values), source_mask), tuple(state)

    def init_decoding(
        self,
        source: Int[Tensor, "B S"],
        source_mask: Bool[Tensor, "B S"] | None = None,
        *,
        beams: int = 1,
        max_seq_len: int | None = None,
    ) -> RecurrentDecoderCache:
        """Read the source; the start of `beams` hypotheses of each sentence, side by side."""
        memory, state = self.encode(source, source_mask)
        return RecurrentDecoderCache(tuple(part.repeat_interleave(beams, dim=1) for part in state), memory)

    def decode(self, tokens: Int[Tensor, "N T"], cache: RecurrentDecoderCache) -> Float[Tensor, "N T V"]:
        """Logits of tokens that follow those in the cache."""
        found, cache.state, _ = self.decoder(self._scaled(tokens), cache.state, Memory(*cache.memory))
        return self.output(found, self.shared.weight)

    def align(
        self, source: Int[Tensor, "B S"], tokens: Int[Tensor, "B T"], source_mask: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B T S"]:
        """How much each step of the decoder looks at each source token; rows sum to one."""
        memory, state = self.encode(source, source_mask)
        return self.decoder(self._scaled(tokens), state, memory)[2]

    def forward_features(
        self, source: Int[Tensor, "B S"], tokens: Int[Tensor, "B T"], source_mask: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """What the last layer reads."""
        memory, state = self.encode(source, source_mask)
        return self.drop(self.decoder(self.drop(self._scaled(tokens)), state, memory)[0])

    def forward(
        self, source: Int[Tensor, "B S"], tokens: Int[Tensor, "B T"], source_mask: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B T V"]:
        return self.output(self.forward_features(source, tokens, source_mask), self.shared.weight)

    def _scaled(self, tokens: Tensor) -> Tensor:
        """Embeddings with variance one."""
        return self.config.d_model**0.5 * self.shared(tokens)


def example_batch(config: Seq2SeqConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random sources of up to 9 tokens and targets of 6."""
    vocabulary = config.vocab_size or 64
    lengths = torch.randint(1, 10, (batch_size,), generator=generator)
    return {
        "source": torch.randint(vocabulary, (batch_size, 9), generator=generator),
        "tokens": torch.randint(vocabulary, (batch_size, 6), generator=generator),
        "source_mask": torch.arange(9) < lengths[:, None],
    }


PRESETS = {
    "seq2seq": Seq2SeqConfig(),
    "seq2seq-bahdanau": Seq2SeqConfig(attention="bahdanau"),
    "seq2seq-tiny": Seq2SeqConfig(vocab_size=64, max_seq_len=32, d_model=16, hidden_size=16, num_layers=2, dropout=0.1),
    "seq2seq-bahdanau-tiny": Seq2SeqConfig(
        vocab_size=64, max_seq_len=32, attention="bahdanau", d_model=16, hidden_size=16, dropout=0.1
    ),
    "seq2seq-lstm-tiny": Seq2SeqConfig(vocab_size=64, max_seq_len=32, cell="lstm", d_model=16, hidden_size=16),
}

CARD = Card(
    title="Seq2Seq with attention",
    authors="Dzmitry Bahdanau, Kyunghyun Cho, Yoshua Bengio",
    paper="Neural machine translation by jointly learning to align and translate",
    year=2014,
    link="https://arxiv.org/abs/1409.0473",
    inputs={
        "source": "int64 [B, S]",
        "tokens": "int64 [B, T]: the target behind a start token",
        "source_mask": "bool [B, S], True where there is a token",
    },
    outputs={"logits": "[B, T, V], of the target token after each position"},
    differences=(
        "Source and target share one table of subwords, which is also the output layer.",
        "The preset has Luong's attention without input feeding, so that training needs no loop over steps.",
        "A linear layer and tanh stand before the output where Bahdanau et al. have maxout.",
    ),
    capabilities=("causal", "differentiable", "features", "translates"),
)
