"""Whether pictures show what their captions asked for, as a classifier sees it, and grids of captions and pictures.

Shapes: N captions, T tokens.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from layerwise.data.examples import Examples
from layerwise.ops.random import permutation
from layerwise.tasks.base import Accumulator, Batch

_AT_ONCE = 64  # pictures of training captions that are made and judged together
_FONT, _LINE, _LINES, _GAP = 10, 12, 3, 4  # pixels of the captions under a grid's pictures


class Recogniser(Protocol):
    """Names what a picture shows."""

    @property
    def class_names(self) -> Sequence[str]:
        """What it tells apart."""
        ...

    def recognise(self, pictures: Tensor) -> Tensor:
        """Place in `class_names`, int64 [N], of uint8 pictures [N, C, H, W]."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Captions with the kind of picture that each asks for.

    Args:
        texts: one a picture.
        kinds: int64 [N], place in the data's class names.
        ids: int64 [N], sample ids.
    """

    texts: list[str]
    kinds: Tensor
    ids: Tensor


def choose_prompts(examples: Examples, most: int, seed: int) -> Prompts | None:
    """At most so many captions, of every kind nearly as many as of the others, by the seed; None where examples have no
    captions or no kinds.
    """
    texts, labels = examples.texts, examples.labels()
    if texts is None or labels is None:
        return None
    order = permutation(len(labels), seed, "prompts")
    by_kind = order[torch.argsort(labels[order], stable=True)]
    _, counts = torch.unique_consecutive(labels[by_kind], return_counts=True)
    starts = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    rank = torch.arange(len(order)) - starts  # of each among those of its kind
    chosen = by_kind[torch.argsort(rank, stable=True)[:most]]
    return Prompts([str(texts[i]) for i in chosen.tolist()], labels[chosen], chosen)


class PromptMetrics(Accumulator):
    """The share of pictures in which a classifier sees the kind that their caption asked for, mean over kinds.

    `prompt_accuracy` is that of training captions, `prompt_accuracy_held_out` that of the captions evaluated. The mean
    over kinds of a generator that does not read its captions is at most `prompt_chance`, one over the number of kinds
    among the captions, whatever it draws, since the shares of its pictures that each kind gets add up to one at most.
    Captions of kinds that the classifier does not know are left out.

    Args:
        inner: metrics of the pictures made for an evaluation; `newest` are a batch's pictures, with the batch.
        recogniser: see its class.
        class_names: the data's kinds.
        prompts: training captions.
        draw: (network, prompts) -> pictures uint8 [N, C, H, W].
        to_bytes: makes uint8 of `inner`'s pictures.
    """

    def __init__(
        self,
        inner: Any,
        recogniser: Recogniser,
        class_names: Sequence[str],
        prompts: Prompts,
        draw: Callable[[nn.Module, Prompts], Tensor],
        to_bytes: Callable[[Tensor], Tensor],
    ) -> None:
        self.inner, self.recogniser, self.prompts, self.draw, self.to_bytes = inner, recogniser, prompts, draw, to_bytes
        place = {name: i for i, name in enumerate(recogniser.class_names)}
        self.places = torch.tensor([place.get(name, -1) for name in class_names])
        self.rows = torch.zeros(0, 4, dtype=torch.int64)  # held out or not, sample id, kind asked for, kind seen

    def update(self, network: nn.Module, batch: Batch) -> None:
        self.inner.update(network, batch)
        if not len(self.rows):  # every process makes the same: `merge` counts each once
            for at in range(0, len(self.prompts.texts), _AT_ONCE):
                part = slice(at, at + _AT_ONCE)
                some = Prompts(self.prompts.texts[part], self.prompts.kinds[part], self.prompts.ids[part])
                self._take(0, some.ids, some.kinds, self.draw(network, some))
        given, pictures = self.inner.newest
        if len(pictures):
            self._take(1, given["sample_ids"], given["kinds"], self.to_bytes(pictures))

    def _take(self, held_out: int, ids: Tensor, kinds: Tensor, pictures: Tensor) -> None:
        asked, seen = self.places[kinds.cpu()], self.recogniser.recognise(pictures).cpu()
        rows = torch.stack([torch.full_like(asked, held_out), ids.cpu(), asked, seen], dim=1)
        self.rows = torch.cat([self.rows, rows[asked >= 0]])

    def state(self) -> dict[str, Tensor]:
        return {**{f"inner/{name}": value for name, value in self.inner.state().items()}, "prompts": self.rows}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        prefix = "inner/"
        self.inner.merge(
            [{k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} for state in states]
        )
        self.rows = torch.unique(torch.cat([state["prompts"] for state in states]), dim=0)

    def compute(self) -> dict[str, float]:
        found = self.inner.compute()
        for held_out, name in ((0, "prompt_accuracy"), (1, "prompt_accuracy_held_out")):
            rows = self.rows[self.rows[:, 0] == held_out]
            if len(rows):
                found[name], chance = mean_over_kinds(rows[:, 2], rows[:, 3])
                if not held_out:
                    found["prompt_chance"] = chance
        return found

    def table(self) -> dict[str, Any]:
        counts = [int((self.rows[:, 0] == held_out).sum()) for held_out in (0, 1)]
        return {**self.inner.table(), "prompts": counts[0], "prompts_held_out": counts[1]}


def mean_over_kinds(asked: Tensor, seen: Tensor) -> tuple[float, float]:
    """The share of each kind that was recognised, mean over the kinds asked for, and one over their number.

    Example:
        >>> mean_over_kinds(torch.tensor([0, 0, 0, 5]), torch.tensor([0, 0, 5, 5]))
        (0.8333333333333333, 0.5)
    """
    kinds, place = torch.unique(asked, return_inverse=True)
    right = torch.zeros(len(kinds), dtype=torch.float64).index_add_(0, place, (asked == seen).double())
    return float((right / torch.bincount(place)).mean()), 1 / len(kinds)


def save_captioned(pictures: Tensor, texts: Sequence[str], path: Path, columns: int = 8, side: int = 96) -> None:
    """A PNG file of uint8 pictures [N, C, H, W], each with its text below."""
    font = ImageFont.load_default(size=_FONT)
    height = side * pictures.shape[2] // pictures.shape[3]
    cell = (side + _GAP, height + _LINES * _LINE + 2 * _GAP)
    rows = -(-len(texts) // columns)
    canvas = Image.new("RGB", (columns * cell[0], rows * cell[1]), "white")
    drawing = ImageDraw.Draw(canvas)
    for i, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        left, top = i % columns * cell[0], i // columns * cell[1]
        pixels = picture.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
        canvas.paste(Image.fromarray(pixels).resize((side, height), Image.Resampling.NEAREST), (left, top))
        lines = textwrap.wrap(text, width=2 * side // _FONT, max_lines=_LINES, placeholder=" ...")
        drawing.multiline_text((left, top + height + _GAP), "\n".join(lines), fill="black", font=font, spacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)
