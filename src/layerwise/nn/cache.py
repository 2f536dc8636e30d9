"""Memory of keys and values between the calls of a decoder, passed explicitly and written in place.

Tensors are allocated once at full length; a call writes its positions behind those that are there and reads a view of
what is filled, so nothing is copied but the new positions. Caches are for inference: gradients do not flow through
them.

Shapes: B batch, G key and value heads, S positions allocated, T new positions, K head width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from layerwise.core.errors import ConfigError, UnsupportedError


class LayerCache:
    """Keys and values of one attention layer.

    Self-attention calls `append` with every new stretch. Cross-attention calls it once with what the encoder gave and
    `read` after that; `length == 0` tells which.

    Args:
        batch_size, num_kv_heads, max_seq_len, head_dim: B, G, S, K.
        value_dim: width of a value head; None means `head_dim`.
        device, dtype: of the model's activations.

    Example:
        >>> layer = LayerCache(1, 2, 8, 4)
        >>> keys, values = layer.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
        >>> keys.shape, layer.length
        (torch.Size([1, 2, 3, 4]), 3)
    """

    def __init__(
        self,
        batch_size: int,
        num_kv_heads: int,
        max_seq_len: int,
        head_dim: int,
        *,
        value_dim: int | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        shape = (batch_size, num_kv_heads, max_seq_len)
        self.keys = torch.zeros(*shape, head_dim, device=device, dtype=dtype)
        self.values = torch.zeros(*shape, head_dim if value_dim is None else value_dim, device=device, dtype=dtype)
        self.length = 0

    def append(self, keys: Float[Tensor, "B G T K"], values: Float[Tensor, "B G T V"]) -> tuple[Tensor, Tensor]:
        """Write new positions behind the filled ones; views of all filled positions, [B, G, length, K] each.

        Raises:
            ConfigError: they do not fit behind what is there, or the batch is another one.
            UnsupportedError: gradients are recorded.
        """
        end = self.length + keys.shape[2]
        if end > self.keys.shape[2]:
            raise ConfigError(
                f"the cache holds {self.keys.shape[2]} positions, {end} are needed: init_cache takes max_seq_len"
            )
        if keys.shape[0] != self.keys.shape[0]:
            raise ConfigError(f"the cache was made for a batch of {self.keys.shape[0]}, got {keys.shape[0]}")
        if torch.is_grad_enabled() and (keys.requires_grad or values.requires_grad):
            raise UnsupportedError("A cache is for inference: call the model under torch.no_grad().")
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.read()

    def read(self) -> tuple[Tensor, Tensor]:
        """Views of the filled keys and values, [B, G, length, K] each."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Row r becomes a copy of what row `rows[r]` was; the batch is then as large as there are `rows`."""
        if len(rows) != len(self.keys):
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)
            return
        filled = slice(0, self.length)
        self.keys[:, :, filled] = self.keys[:, :, filled].index_select(0, rows)
        self.values[:, :, filled] = self.values[:, :, filled].index_select(0, rows)


class Cache:
    """The caches of all layers of a model, with one position for all.

    Args:
        layers: in the model's order.
    """

    def __init__(self, layers: Sequence[LayerCache]) -> None:
        self.layers = tuple(layers)

    @property
    def position(self) -> int:
        """Positions filled: the index of the next token."""
        return self.layers[0].length

    @property
    def max_seq_len(self) -> int:
        """Positions allocated."""
        return self.layers[0].keys.shape[2]

    def rewind(self, position: int) -> None:
        """Forget everything from `position` on; 0 empties the cache for another sequence.

        Raises:
            ConfigError: so many positions are not filled.
        """
        if not 0 <= position <= self.position:
            raise ConfigError(f"position={position}: must be from 0 to {self.position}, the positions filled")
        for layer in self.layers:
            layer.length = position

    def reorder(self, rows: Int[Tensor, " R"]) -> None:
        """Row r becomes a copy of what row `rows[r]` was (beams that survive, one prompt for many samples)."""
        for layer in self.layers:
            layer.select(rows)


class DecoderCache(Cache):
    """Memory of a decoder that reads an encoder's result: its own keys and values for every hypothesis, and the
    encoder's, once a sentence.

    Row n of the hypotheses belongs to sentence n * B // N; sentences have equally many.

    Args:
        layers: of self-attention, with N rows.
        memory: keys and values [B, G, S, K] of each layer's cross-attention.
        mask: bool [B, S], where the source has tokens; None means everywhere.
    """

    def __init__(
        self, layers: Sequence[LayerCache], memory: Sequence[tuple[Tensor, Tensor]], mask: Bool[Tensor, "B S"] | None
    ) -> None:
        super().__init__(layers)
        self.memory, self.mask = list(memory), mask

    def reorder(self, rows: Int[Tensor, " R"]) -> None:
        """Hypothesis r becomes a copy of what `rows[r]` was. Each sentence keeps its hypotheses to itself; one of
        which no row is named is dropped.

        Raises:
            ConfigError: `rows` are no whole sentences.
        """
        sentences = len(self.memory[0][0])
        beams = len(self.layers[0].keys) // sentences
        if len(rows) % beams:
            raise ConfigError(f"{len(rows)} rows: {beams} hypotheses of each sentence that is kept are needed")
        super().reorder(rows)
        if len(rows) < sentences * beams:
            kept = rows[::beams] // beams
            self.memory = [(k.index_select(0, kept), v.index_select(0, kept)) for k, v in self.memory]
            self.mask = None if self.mask is None else self.mask.index_select(0, kept)


class RecurrentCache:
    """Memory of a recurrent network: the state after the last token, of one size however long the text was.

    Unlike keys and values it may carry gradients, and it cannot go back: only to the beginning.

    Args:
        state: hidden states [L, B, H], of an LSTM also the cells.
        max_seq_len: tokens that a text may have; there is no limit of its own.
    """

    def __init__(self, state: tuple[Tensor, ...], max_seq_len: int) -> None:
        self.state, self.max_seq_len, self.position = state, max_seq_len, 0

    def rewind(self, position: int) -> None:
        """Forget everything.

        Raises:
            ConfigError: `position` is neither 0 nor where it is: states in between are not kept.
        """
        if position not in (0, self.position):
            raise ConfigError(f"position={position}: a recurrent state goes back to 0 only")
        if position == 0:
            self.state, self.position = tuple(torch.zeros_like(part) for part in self.state), 0

    def reorder(self, rows: Int[Tensor, " R"]) -> None:
        """Row r becomes a copy of what row `rows[r]` was."""
        self.state = tuple(part.index_select(1, rows) for part in self.state)


class RecurrentDecoderCache:
    """Memory of a recurrent decoder that reads an encoder's result: a state of every hypothesis, and what the encoder
    gave, once a sentence.

    Args:
        state: tensors [L, N, H].
        memory: tensors [B, ...].
    """

    def __init__(self, state: tuple[Tensor, ...], memory: tuple[Tensor, ...]) -> None:
        self.state, self.memory = state, tuple(memory)

    def reorder(self, rows: Int[Tensor, " R"]) -> None:
        """Hypothesis r becomes a copy of what `rows[r]` was; see `DecoderCache.reorder`."""
        count = self.state[0].shape[1]
        beams = count // len(self.memory[0])
        if len(rows) % beams:
            raise ConfigError(f"{len(rows)} rows: {beams} hypotheses of each sentence that is kept are needed")
        self.state = tuple(part.index_select(1, rows) for part in self.state)
        if len(rows) < count:
            self.memory = tuple(part.index_select(0, rows[::beams] // beams) for part in self.memory)
