"""What models may offer beyond `forward`. Objectives, tasks and practices ask for these, never for a model's class.

Each protocol names methods and attributes of an `nn.Module`; `isinstance(network, Features)` tells whether they are
there. `require` turns a missing one into an error that a person understands.
"""

from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.nn.cache import Cache, RecurrentCache
from layerwise.ops.random import Draws


@runtime_checkable
class Features(Protocol):
    """Gives the representation before the head."""

    def forward_features(self, x: Tensor, /) -> Tensor:
        """Features of each sample [B, D], or of each of its positions [B, T, D], for forward's first argument."""
        ...


@runtime_checkable
class VocabularyHead(Protocol):
    """Scores every token of a vocabulary by one product at the end, so that a loss may take it a part at a time.

    `forward(...)` is `F.linear(forward_features(...), output_embedding.weight, its bias if any)`.
    """

    @property
    def output_embedding(self) -> nn.Module:
        """The last layer: a linear one, or the embedding whose table it shares."""
        ...

    def forward_features(self, *args: Tensor, **inputs: Tensor) -> Tensor:
        """What the last layer reads, [B, T, D], for forward's arguments."""
        ...


def vocabulary_weights(network: nn.Module) -> tuple[Tensor, Tensor | None] | None:
    """Weight [V, D] and bias [V] of the product that ends a network; None where it does not end so, or where the last
    layer was changed from outside (an adapter, a quantised layer) and is more than a product.
    """
    if not isinstance(network, VocabularyHead):
        return None
    layer = network.output_embedding
    if type(layer) is nn.Linear:
        return layer.weight, layer.bias
    return (layer.weight, None) if type(layer) is nn.Embedding else None


class HiddenWords(NamedTuple):
    """What a text encoder makes of words that are hidden from it.

    Args:
        features: of every hidden word [N, D]; times the words' weights they are its logits.
        next_sentence: logits [B, 2] of whether the second text follows the first (0) or is from elsewhere (1); None
            where the network has no head for it.
    """

    features: Tensor
    next_sentence: Tensor | None


@runtime_checkable
class MaskedWordModel(Protocol):
    """Guesses words from the words on both sides."""

    def hidden_words(self, hidden: Tensor, /, **inputs: Tensor) -> HiddenWords:
        """Of the words at which `hidden` [B, T] is True, row by row; inputs are forward's."""
        ...

    def word_weights(self) -> tuple[Tensor, Tensor]:
        """What features are multiplied with and what is added, [V, D] and [V]."""
        ...


@runtime_checkable
class StatesAndOutput(Protocol):
    """A text encoder that gives what its head reads beside what its head says."""

    def states_and_output(self, **inputs: Tensor) -> tuple[Tensor, Any]:
        """Last states of all tokens as rows [N, D], and forward's output, for forward's inputs."""
        ...


@runtime_checkable
class Pyramid(Protocol):
    """Gives maps of a picture at several strides, finest first: what detectors and U-Nets build on
    (`create_model(..., features_only=True)`).
    """

    pyramid_channels: tuple[int, ...]  # of each map
    pyramid_strides: tuple[int, ...]  # pixels of the picture to one position of each map

    def forward_pyramid(self, images: Tensor, /) -> list[Tensor]:
        """Maps [B, C_i, about H / s_i, about W / s_i] of pictures [B, C, H, W]."""
        ...


@runtime_checkable
class AttentionMaps(Protocol):
    """Reads a picture as a class token and patches, and tells what each of its blocks attends to."""

    def attention_maps(self, images: Tensor, /) -> Tensor:
        """Weights [L, B, A, T, T] of L blocks and A heads: row t is what token t reads and sums to one; token 0 is the
        class token, the others are the patches of pictures [B, C, H, W] row by row.
        """
        ...


@runtime_checkable
class AuxiliaryHeads(Protocol):
    """A classifier that, while training, also classifies from maps halfway: `forward` then gives a named tuple of the
    logits and those of each auxiliary head, [B, K] each.
    """

    num_auxiliary: int  # 0: no such heads, forward always gives the logits alone


@runtime_checkable
class Cached(Protocol):
    """A causal sequence model that goes on from a cache: the logits of all calls, joined, equal those of one call on
    all tokens.
    """

    @property
    def max_seq_len(self) -> int:
        """Positions that it can hold at most."""
        ...

    def init_cache(self, batch_size: int, max_seq_len: int | None = None) -> Cache | RecurrentCache:
        """An empty cache on the model's device; None takes the model's own length."""
        ...

    def __call__(self, tokens: Tensor, cache: Any = None) -> Tensor:
        """Logits [B, T, V] of tokens [B, T] that follow those in the cache; what they leave is written to it."""
        ...


@runtime_checkable
class Recurrent(Protocol):
    """A causal sequence model whose whole memory of a text is a state of fixed size, through which gradients flow."""

    recurrent_state: bool  # True

    def init_cache(self, batch_size: int, max_seq_len: int | None = None) -> RecurrentCache:
        """The state before a text."""
        ...


@runtime_checkable
class Decoding(Protocol):
    """What a decoder remembers between calls: one row a hypothesis, equally many for each sentence, side by side."""

    def reorder(self, rows: Tensor, /) -> None:
        """Hypothesis r becomes a copy of what `rows[r]` was, one of the same sentence; a sentence of which no row is
        named is dropped.
        """
        ...


@runtime_checkable
class EncoderDecoder(Protocol):
    """Writes a target sequence token by token while it reads a source sequence."""

    @property
    def max_seq_len(self) -> int:
        """Tokens of a source or a target at most."""
        ...

    def init_decoding(
        self, source: Tensor, source_mask: Tensor | None = None, *, beams: int = 1, max_seq_len: int | None = None
    ) -> Decoding:
        """Read sources [B, S]; room for `beams` hypotheses of each, of at most `max_seq_len` tokens."""
        ...

    def decode(self, tokens: Tensor, cache: Any, /) -> Tensor:
        """Logits [N, T, V] of target tokens [N, T] that follow those in the cache."""
        ...


@runtime_checkable
class Aligning(Protocol):
    """Says which source tokens each target token was written from."""

    def align(self, source: Tensor, tokens: Tensor, source_mask: Tensor | None = None, /) -> Tensor:
        """Weights [B, T, S] of the source at every position of the decoder; rows sum to one."""
        ...


@runtime_checkable
class GenerativeAdversarial(Protocol):
    """Two networks that train against each other."""

    generator: nn.Module  # latents [B, latent_size] -> samples
    discriminator: nn.Module  # samples -> one logit each [B], large for real
    latent_size: int


@runtime_checkable
class PictureSampler(Protocol):
    """Draws pictures by a chain or another procedure of its own."""

    def sample_pictures(self, sample_ids: Tensor, draws: Draws, /) -> Tensor:
        """Pictures [B, C, H, W] in the range of the training pictures; each depends on its sample id and the draws
        alone.
        """
        ...


@runtime_checkable
class Truncating(Protocol):
    """A `PictureSampler` that can draw its styles towards their mean: more typical, less varied."""

    def sample_truncated(self, sample_ids: Tensor, draws: Draws, share: float, /) -> Tensor:
        """Pictures as `sample_pictures` gives them, of styles of which this share of the distance to the mean style is
        left.
        """
        ...


@runtime_checkable
class Denoiser(Protocol):
    """Tells noise from what it was added to, under a condition: a class, or a text."""

    def sample_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape of what is denoised, for pictures of that size: the picture's own, or that of its latents."""
        ...

    def to_samples(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures [B, C, H, W] in [-1, 1] as what is denoised; `noise`, of its shape, makes a draw where there is a
        choice.
        """
        ...

    def to_images(self, samples: Tensor) -> Tensor:
        """Pictures again."""
        ...

    def embed_condition(self, condition: Tensor) -> Tensor:
        """Classes [B] or tokens [B, T] as `forward` takes them."""
        ...

    def __call__(self, samples: Tensor, timesteps: Tensor, condition: Tensor | None = None, /) -> Tensor:
        """The prediction for noisy samples [B, ...] at times [B]."""
        ...


@runtime_checkable
class TiledPictures(Protocol):
    """A denoiser whose pictures can be made a part at a time."""

    def to_images_in_tiles(self, samples: Tensor, pixels: int, /) -> Tensor:
        """`Denoiser.to_images` in tiles of about so many pixels a side: memory is that of one tile."""
        ...


@runtime_checkable
class Autoencoder(Protocol):
    """Carries pictures through a code that is smaller than they are."""

    code_size: int

    def encode(self, images: Tensor, /) -> Tensor:
        """Codes [B, code_size] of pictures [B, C, H, W] in [0, 1]."""
        ...

    def decode(self, code: Tensor, /) -> Tensor:
        """Logits of the pixels [B, C, H, W]: their logistic function is the reconstruction."""
        ...


@runtime_checkable
class LatentVariable(Protocol):
    """A model of pictures with a hidden code: a standard normal prior, a decoder's p(x | z) and an encoder's normal
    q(z | x) with a variance of its own for every number of the code.
    """

    code_size: int
    num_classes: int  # of a model that is told the class; 0: it takes no labels

    def encode_distribution(self, images: Tensor, labels: Tensor | None = None, /) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), [B, code_size] each."""
        ...

    def log_likelihood(self, images: Tensor, code: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """log p(x | z) [B], summed over a picture's values."""
        ...

    def decode_pictures(self, code: Tensor, labels: Tensor | None = None, /) -> Tensor:
        """The mean of p(x | z) [B, C, H, W]."""
        ...


class PolicyOutput(NamedTuple):
    """What an actor-critic network says of observations.

    Args:
        logits: of the actions [B, A].
        value: expected discounted return [B].
    """

    logits: Tensor
    value: Tensor


@runtime_checkable
class ActorCritic(Protocol):
    """A policy with a value estimate."""

    def __call__(self, observations: Tensor, /) -> PolicyOutput:
        """Action logits and values for observations [B, ...]."""
        ...


@runtime_checkable
class EnergyModel(Protocol):
    """A model of visible and hidden units with alternating (Gibbs) sampling. Both samplers give probabilities and a
    draw.
    """

    def free_energy(self, visible: Tensor, /) -> Tensor:
        """-log sum_h exp(-E(v, h)) [B] for visible [B, D]."""
        ...

    def sample_hidden(self, visible: Tensor, uniform: Tensor, /) -> tuple[Tensor, Tensor]:
        """p(h = 1 | v) and a draw from it, both [B, H]; `uniform` [B, H] in [0, 1) decides the draw."""
        ...

    def sample_visible(self, hidden: Tensor, uniform: Tensor, /) -> tuple[Tensor, Tensor]:
        """p(v = 1 | h) and a draw from it, both [B, D]; `uniform` [B, D] in [0, 1) decides the draw."""
        ...


P = TypeVar("P")


def require(network: nn.Module, protocol: type[P], purpose: str) -> P:
    """The network as that protocol.

    Raises:
        UnsupportedError: it lacks something; the message says what, and what for.
    """
    if not isinstance(network, protocol):
        wanted = sorted(name for name in _members(protocol) if not hasattr(network, name))
        raise UnsupportedError(f"{purpose} needs a model with {', '.join(wanted)}; {type(network).__name__} has none.")
    return network


def _members(protocol: type) -> set[str]:
    """Names that a protocol asks for."""
    own = {name for name in vars(protocol) if not name.startswith("_")} | set(getattr(protocol, "__annotations__", {}))
    return own | ({"__call__"} if "__call__" in vars(protocol) else set())
