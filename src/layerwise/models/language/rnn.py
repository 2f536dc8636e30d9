"""Recurrent language models: a plain RNN, an LSTM or a GRU reads a text and scores the next token at every position.

Elman 1990, "Finding structure in time", https://doi.org/10.1207/s15516709cog1402_1; Hochreiter, Schmidhuber 1997, "Long
short-term memory", https://doi.org/10.1162/neco.1997.9.8.1735; Cho et al. 2014, https://arxiv.org/abs/1406.1078. As
language models: Mikolov et al. 2010, "Recurrent neural network based language model"; with dropout between layers
Zaremba, Sutskever, Vinyals 2014, https://arxiv.org/abs/1409.2329; with tied weights Press and Wolf 2017,
https://arxiv.org/abs/1608.05859.
Reference code and state-dict names: pytorch/examples, word_language_model. The cells' equations, step by step:
`layerwise.ops.recurrent`.

Differs from the papers: the LSTM has no peephole connections; the GRU's reset gate acts after the product, as in cuDNN.

Shapes: B batch, T tokens, D width of the embedding, H units, L layers, V vocabulary.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.cache import RecurrentCache
from layerwise.nn.dropout import Dropout
from layerwise.nn.init import Init, initialise
from layerwise.nn.recurrent import CellName, empty_state, recurrent_layers, reset_recurrent, run_layers


@dataclass(frozen=True, kw_only=True)
class RNNConfig:
    """Sizes of a recurrent language model.

    Args:
        vocab_size: number of tokens; None is taken from the data.
        cell: "rnn" (tanh), "lstm" or "gru".
        d_model: width of the embedding.
        hidden_size: units a layer.
        num_layers: recurrent layers.
        tie_weights: the output layer's matrix is the embedding's table; `hidden_size` is `d_model` then.
        dropout: probability of dropping an element of an embedding, between layers and before the output, in training.
        forget_bias: of an LSTM's forget gates at the start.
    """

    vocab_size: PositiveInt | None = None
    cell: CellName = "lstm"
    d_model: PositiveInt = 200
    hidden_size: PositiveInt = 200
    num_layers: PositiveInt = 2
    tie_weights: bool = False
    dropout: Probability = 0.2
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        if self.tie_weights and self.hidden_size != self.d_model:
            raise ConfigError(
                f"tie_weights=true: hidden_size={self.hidden_size} must be d_model={self.d_model}, since one matrix is "
                "embedding and output layer"
            )


class RNN(nn.Module):
    """Logits of the next token at every position.

    e_t = encoder[x_t], h_t = cell(e_t, h_{t-1}), logits_t = W h_t + b.

    A cache is the state of the layers: the text goes on from it and leaves its own there, with the gradient of what
    came before if that has one.

    Args:
        config: sizes; `vocab_size` must be set.

    Shape:
        tokens: int64 [B, T] in [0, V); logits: [B, T, V].

    Raises:
        ConfigError: `vocab_size` is not set.

    Example:
        >>> model = RNN(RNNConfig(vocab_size=65, d_model=16, hidden_size=32))
        >>> model(torch.zeros(1, 5, dtype=torch.int64)).shape
        torch.Size([1, 5, 65])
    """

    max_seq_len = 1 << 40  # longer than any text: a state has no positions that could run out
    recurrent_state = True

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        if config.vocab_size is None:
            raise ConfigError("RNN needs vocab_size: give it, or train on data that tells it")
        self.config = config
        self.encoder = nn.Embedding(config.vocab_size, config.d_model)
        self.drop = Dropout(config.dropout)
        self.rnn = recurrent_layers(config.cell, config.d_model, config.hidden_size, config.num_layers, config.dropout)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        if config.tie_weights:
            self.decoder.weight = self.encoder.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embedding and output normal with deviation 0.05, biases zero; the cells as `reset_recurrent` says."""
        initialise(self.encoder, {"*": Init("normal", 0.05)})
        reset_recurrent(self.rnn, self.config.forget_bias)
        initialise(self.decoder, {"bias": Init("zeros"), "*": Init("normal", 0.05)})

    @property
    def output_embedding(self) -> nn.Linear:
        """The last layer."""
        return self.decoder

    def init_cache(self, batch_size: int, max_seq_len: int | None = None) -> RecurrentCache:
        """The state before a text: zeros."""
        return RecurrentCache(empty_state(self.rnn, batch_size), max_seq_len or self.max_seq_len)

    def forward_features(
        self, tokens: Int[Tensor, "B T"], cache: RecurrentCache | None = None
    ) -> Float[Tensor, "B T H"]:
        """What the last layer reads."""
        cache = self.init_cache(len(tokens)) if cache is None else cache
        hidden, cache.state = run_layers(self.rnn, self.drop(self.encoder(tokens)), cache.state)
        cache.position += tokens.shape[1]
        return self.drop(hidden)

    def forward(self, tokens: Int[Tensor, "B T"], cache: RecurrentCache | None = None) -> Float[Tensor, "B T V"]:
        return self.decoder(self.forward_features(tokens, cache))


def example_batch(config: RNNConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens [B, 12]."""
    return {"tokens": torch.randint(config.vocab_size or 64, (batch_size, 12), generator=generator)}


PRESETS = {
    "lstm-word": RNNConfig(),
    "lstm-word-medium": RNNConfig(vocab_size=10_000, d_model=650, hidden_size=650, dropout=0.5),
    "lstm-word-large": RNNConfig(vocab_size=10_000, d_model=1500, hidden_size=1500, dropout=0.65),
    "gru-word": RNNConfig(cell="gru"),
    "rnn-word": RNNConfig(cell="rnn"),
    "lstm-char": RNNConfig(d_model=64, hidden_size=512, num_layers=1, dropout=0.3),
    "gru-char": RNNConfig(cell="gru", d_model=64, hidden_size=512, num_layers=1, dropout=0.3),
    "rnn-char": RNNConfig(cell="rnn", d_model=64, hidden_size=512, num_layers=1, dropout=0.3),
    "lstm-tiny": RNNConfig(vocab_size=64, d_model=16, hidden_size=24, dropout=0.1),
    "gru-tiny": RNNConfig(vocab_size=64, cell="gru", d_model=24, hidden_size=24, tie_weights=True, dropout=0.1),
    "rnn-tiny": RNNConfig(vocab_size=64, cell="rnn", d_model=16, hidden_size=24, num_layers=1, dropout=0.1),
}

CARD = Card(
    title="Recurrent language model (RNN, LSTM, GRU)",
    authors="Sepp Hochreiter, Juergen Schmidhuber",
    paper="Long short-term memory",
    year=1997,
    link="https://doi.org/10.1162/neco.1997.9.8.1735",
    inputs={"tokens": "int64 [B, T]"},
    outputs={"logits": "[B, T, vocab_size], of the token after each position"},
    differences=(
        "The LSTM has the forget gate of 2000 and no peephole connections.",
        "The GRU's reset gate acts after the product with the state, as in cuDNN.",
    ),
    capabilities=("features", "cache", "causal", "differentiable", "generates"),
)
