"""Pictures through a grid of codes: how well they are reconstructed, how many codes are in use, what a prior draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.data.examples import Splits
from layerwise.nn.protocols import require
from layerwise.objectives.vector_quantisation import perplexity_of
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.image_generation import ImageGeneration, ImageGenerationConfig
from layerwise.tasks.picture_grids import enlarged, save_grid

_SHOWN = 12  # pictures of the report's reconstructions


@runtime_checkable
class CodedPictures(Protocol):
    """An autoencoder whose code is a grid of entries of a codebook."""

    codebook_size: int

    def encode(self, images: Tensor, /) -> Tensor:
        """Codes int64 [B, T] of pictures in [0, 1]."""
        ...

    def decode(self, code: Tensor, /) -> Tensor:
        """Logits of the pixels [B, C, H, W]."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageCodesConfig:
    """Options of pictures through codes.

    Args:
        seed: of the pictures that are drawn for evaluation and report.
        evaluated, judge, judged, judged_training: see `ImageGenerationConfig`.
    """

    seed: NonNegativeInt = 0
    evaluated: PositiveInt | None = None
    judge: str | None = None
    judged: PositiveInt = 2000
    judged_training: NonNegativeInt = 100_000


class CodeMetrics(Accumulator):
    """Those of generated pictures, and of the code: `squared_error` a picture, summed over its values in [0, 1],
    `codes_used`, the share of the codebook that the split's pictures use, and `perplexity`, the exp of the entropy of
    how often they do.

    Args:
        generation: metrics of generated pictures.
    """

    def __init__(self, generation: Accumulator) -> None:
        self.generation, self.own = generation, dict[str, Tensor]()

    def update(self, network: nn.Module, batch: Batch) -> None:
        self.generation.update(network, batch)
        model, images = require(network, CodedPictures, "task=image_codes"), batch["images"]
        codes = model.encode(images)
        errors = (images.double() - model.decode(codes).double().sigmoid()).square().flatten(1).sum(1)
        fresh = {
            "count": torch.tensor(float(len(images)), dtype=torch.float64),
            "errors": errors.sum().cpu(),
            "used": torch.bincount(codes.flatten(), minlength=model.codebook_size).cpu(),
        }
        self.own = {name: self.own[name] + value if self.own else value for name, value in fresh.items()}

    def state(self) -> dict[str, Tensor]:
        return {**{f"generation/{k}": v for k, v in self.generation.state().items()}, **self.own}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        prefix = "generation/"
        self.generation.merge(
            [{k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} for state in states]
        )
        present = [state for state in states if "count" in state]
        names = ("count", "errors", "used") if present else ()
        self.own = {name: torch.stack([state[name] for state in present]).sum(0) for name in names}

    def compute(self) -> dict[str, float]:
        if not self.own:
            return {}
        used = self.own["used"]
        return {
            **self.generation.compute(),
            "squared_error": float(self.own["errors"] / self.own["count"]),
            "codes_used": float((used > 0).double().mean()),
            "perplexity": float(perplexity_of(used)),
        }

    def table(self) -> dict[str, Any]:
        return self.generation.table() | ({"codebook_size": len(self.own["used"])} if self.own else {})


class ImageCodes(ImageGeneration):
    """Raw `image` uint8 [B, C, H, W] to `images` in [0, 1]; the report has reconstructions beside what it draws."""

    def __init__(self, config: ImageCodesConfig) -> None:
        super().__init__(
            ImageGenerationConfig(
                seed=config.seed,
                normalise="unit",
                evaluated=config.evaluated,
                judge=config.judge,
                judged=config.judged,
                judged_training=config.judged_training,
            )
        )

    def accumulator(self) -> Accumulator:
        return CodeMetrics(super().accumulator())

    @torch.no_grad()
    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """Samples of the prior, real pictures, reconstructions."""
        found = super().pictures(network, splits, folder)
        examples = splits and (splits.val or splits.train)
        if not examples:
            return found
        model, like = require(network, CodedPictures, "task=image_codes"), next(network.parameters())
        chosen = torch.linspace(0, len(examples) - 1, min(_SHOWN, len(examples))).long()
        images, mode = self.inputs(examples.collate(chosen))["images"], network.training
        network.eval()
        codes = model.encode(images.to(like))
        rows = torch.cat([images, model.decode(codes).float().sigmoid().cpu()])
        network.train(mode)
        drawn = rows.mul(255).round().clamp(0, 255).to(torch.uint8)
        save_grid(enlarged(drawn), folder / "reconstructions.png", columns=len(chosen))
        caption = f"Pictures and their reconstructions from {codes.shape[1]} of {model.codebook_size} codes"
        return [*found, (caption, folder / "reconstructions.png")]


TASKS = {"image_codes": ImageCodesConfig()}
