"""Model cards: what an architecture is, as literals that are read without importing it."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, get_args

Capability = Literal[
    "features",  # forward_features(...) gives the representation before the head
    "cache",  # init_cache(...) and forward(..., cache=) give the same logits as the full pass
    "causal",  # output at a position does not depend on later positions
    "permutation_equivariant",  # node order does not matter
    "differentiable",  # gradients reach every parameter
    "generates",  # makes samples from noise or a prompt
    "translates",  # init_decoding(source) and decode(tokens, cache) give the same logits as forward, step by step
    "stochastic",  # forward draws random numbers also in eval mode
]
CAPABILITIES: tuple[str, ...] = get_args(Capability)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a reader wants to know of an architecture before the code.

    Args:
        title: the architecture's name in words.
        authors, paper, year, link: the first publication.
        inputs, outputs: argument name or output name -> shape and meaning.
        differences: departures from the paper, one sentence each.
        capabilities: from the closed enumeration `Capability`; each is tested.
        published: pattern of preset names -> what their published weights have where the preset leaves it to the data
            (`num_classes`, `in_channels`), and the side of their pictures (`image_size`); the first that matches.
    """

    title: str
    authors: str
    paper: str
    year: int
    link: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    differences: tuple[str, ...] = ()
    capabilities: tuple[Capability, ...] = ("differentiable",)
    published: dict[str, dict[str, int]] = field(default_factory=dict)

    def published_form(self, preset: str) -> dict[str, int]:
        """Values of the published form of a preset; none where nothing was published."""
        return next((dict(form) for pattern, form in self.published.items() if fnmatchcase(preset, pattern)), {})

    def __post_init__(self) -> None:
        if unknown := set(self.capabilities) - set(CAPABILITIES):
            raise ValueError(f"capabilities={sorted(unknown)} are not among {CAPABILITIES}")
