"""Which rotary position embedding a model has: its frequencies and their published scalings for longer texts.

The mathematics is in `ops.rope`. Nothing is learned and nothing is stored: tables are made for the positions of a call.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from layerwise.core.config import Fraction, PositiveFloat, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.ops import rope

Scaling = Literal["none", "linear", "dynamic", "yarn", "llama3", "longrope"]

# Options that each scaling reads, beside `factor`; those in capitals it cannot do without.
_READS: dict[str, tuple[str, ...]] = {
    "none": (),
    "linear": ("FACTOR",),
    "dynamic": ("FACTOR", "TRAINED_LEN"),
    "yarn": ("FACTOR", "TRAINED_LEN", "attention_factor", "fast", "slow", "truncate", "scale", "scale_all"),
    "llama3": ("FACTOR", "TRAINED_LEN", "low", "high"),
    "longrope": ("FACTOR", "TRAINED_LEN", "attention_factor", "SHORT_FACTORS", "LONG_FACTORS"),
}


@dataclass(frozen=True, kw_only=True)
class RoPEConfig:
    """Rotary position embedding.

    Args:
        theta: base of the frequencies.
        rotated_share: share of a head's numbers that is turned.
        interleaved: pairs are neighbours, as in the paper, not halves of the head.
        scaling: how a model that was trained on texts of `trained_len` reads longer ones: "linear" (positions divided
            by `factor`; Chen et al. 2023, arXiv:2306.15595), "dynamic" (base grows with the text), "yarn", "llama3",
            "longrope".
        factor: how many times longer.
        trained_len: longest text before scaling; all but "linear" need it.
        attention_factor: of queries and keys ("yarn", "longrope"); None takes the paper's.
        fast, slow: of "yarn", see `ops.rope.yarn_frequencies`.
        truncate: of "yarn", likewise.
        scale, scale_all: of "yarn" as DeepSeek has it: the attention factor is the quotient of both scales' factors.
        low, high: of "llama3", turns within `trained_len`.
        short_factors, long_factors: of "longrope", one a pair, for texts up to `trained_len` and beyond.

    Raises:
        ConfigError: an option that the scaling needs is missing, or one is given that it does not read.
    """

    theta: PositiveFloat = 10_000.0
    rotated_share: Fraction = 1.0
    interleaved: bool = False
    scaling: Scaling = "none"
    factor: PositiveFloat | None = None
    trained_len: PositiveInt | None = None
    attention_factor: PositiveFloat | None = None
    fast: PositiveFloat | None = None
    slow: PositiveFloat | None = None
    truncate: bool | None = None
    scale: PositiveFloat | None = None
    scale_all: PositiveFloat | None = None
    low: PositiveFloat | None = None
    high: PositiveFloat | None = None
    short_factors: tuple[PositiveFloat, ...] | None = None
    long_factors: tuple[PositiveFloat, ...] | None = None

    def __post_init__(self) -> None:
        read = _READS[self.scaling]
        needed = [name.lower() for name in read if name.isupper()]
        if missing := [name for name in needed if getattr(self, name) is None]:
            raise ConfigError(f"scaling={self.scaling} needs {', '.join(missing)}")
        known = {name.lower() for name in read}
        options = {name.lower() for names in _READS.values() for name in names}
        if idle := sorted(name for name in options - known if getattr(self, name) is not None):
            raise ConfigError(f"scaling={self.scaling} does not read {', '.join(idle)}: leave out")
        if (self.scale is None) != (self.scale_all is None):
            raise ConfigError("scale and scale_all belong together: give both or neither")


def rope_frequencies(config: RoPEConfig, head_dim: int, seq_len: int) -> tuple[list[float], float]:
    """Radians a position of each pair, and the factor of queries and keys.

    Args:
        head_dim: width of a head.
        seq_len: positions of the whole text, cached ones included: "dynamic" and "longrope" depend on it.

    Raises:
        ConfigError: the turned part of a head is no even number, or factors are not one a pair.
    """
    width = int(head_dim * config.rotated_share)
    if width % 2 or not width:
        raise ConfigError(f"{width} of head_dim={head_dim} numbers are turned: must be even and at least 2")
    theta, factor, trained = config.theta, config.factor or 1.0, config.trained_len or 0
    if config.scaling == "linear":
        return [each / factor for each in rope.plain_frequencies(width, theta)], 1.0
    if config.scaling == "dynamic":
        if width < 4:
            raise ConfigError(f"scaling=dynamic needs at least 4 turned numbers a head, got {width}")
        return rope.plain_frequencies(width, rope.dynamic_theta(width, theta, factor, trained, seq_len)), 1.0
    if config.scaling == "yarn":
        return _yarn(config, width)
    if config.scaling == "llama3":
        return rope.llama3_frequencies(width, theta, factor, trained, config.low or 1.0, config.high or 4.0), 1.0
    if config.scaling == "longrope":
        chosen = config.long_factors if seq_len > trained else config.short_factors
        assert chosen is not None
        if len(chosen) != width // 2:
            raise ConfigError(f"longrope has {len(chosen)} factors: one for each of the {width // 2} pairs is needed")
        own = config.attention_factor
        return rope.long_frequencies(width, theta, chosen), own or rope.long_attention_factor(factor, trained)
    return rope.plain_frequencies(width, theta), 1.0


def _yarn(config: RoPEConfig, width: int) -> tuple[list[float], float]:
    assert config.factor is not None
    assert config.trained_len is not None
    frequencies = rope.yarn_frequencies(
        width,
        config.theta,
        config.factor,
        config.trained_len,
        config.fast or 32.0,
        config.slow or 1.0,
        config.truncate is not False,
    )
    if config.attention_factor is not None:
        return frequencies, config.attention_factor
    if config.scale is None or config.scale_all is None:
        return frequencies, rope.yarn_attention_factor(config.factor)
    one, all_ = (rope.yarn_attention_factor(config.factor, scale) for scale in (config.scale, config.scale_all))
    return frequencies, one / all_


def rope_table(
    config: RoPEConfig, head_dim: int, positions: Int[Tensor, "... T"], seq_len: int
) -> tuple[Float[Tensor, "... T P"], Float[Tensor, "... T P"]]:
    """Cosines and sines for `ops.rope.rotate`: made once a forward pass, used by every layer.

    Args:
        head_dim: width of a head.
        positions: of the tokens: [T], or [B, T] where rows differ (packed documents).
        seq_len: positions of the whole text, cached ones included.
    """
    frequencies, scale = rope_frequencies(config, head_dim, seq_len)
    return rope.rotation_table(frequencies, positions, scale=scale)
