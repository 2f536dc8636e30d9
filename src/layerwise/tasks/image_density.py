"""Image density: how likely pictures held back are under a model with a hidden code, beside pictures that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.data.examples import Splits
from layerwise.nn.protocols import LatentVariable, require
from layerwise.objectives.variational import importance_bound, labels_of
from layerwise.ops.random import Draws
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.denoising import Conditions, PictureOptions
from layerwise.tasks.image_generation import ImageGeneration, ImageGenerationConfig, class_asked
from layerwise.tasks.picture_grids import enlarged, save_grid

_CODES_AT_ONCE = 2000  # decoded together: what a core's cache holds
_SHOWN = 12  # pictures in a row of the report, and steps of a walk
_WALKS = 6  # pairs of pictures that are walked between
_ACTIVE = 0.01  # variance of a code's mean over pictures above which it carries something (Burda et al., section 5.2)
_LOG_2 = 0.6931471805599453


@dataclass(frozen=True, kw_only=True)
class ImageDensityConfig:
    """Options of image density.

    Args:
        samples: codes a picture that the bound is taken over; more come nearer to the likelihood.
        binarise: pixels become 0 or 1: "sampled" takes the grey level as the probability of 1, decided once for each
            picture by a hash of its sample id, "threshold" by whether it is above one half, "none" leaves grey levels.
            The bounds of the three are not comparable.
        seed: of codes and binary pixels in evaluation, and of the pictures in the report.
    """

    samples: PositiveInt = 500
    binarise: Literal["none", "sampled", "threshold"] = "none"
    seed: NonNegativeInt = 0


class DensityMetrics(Accumulator):
    """Bounds on minus the log-likelihood of a picture, in nats: lower is better.

    `nats` is the bound of `samples` codes, `elbo_nats` that of one, `divergence_nats` their part that the code costs,
    `bits_per_dimension` is `nats` a pixel in bits, `active_units` the numbers of the code whose mean changes from
    picture to picture by a variance above 0.01.

    Args:
        samples: codes a picture.
        seed: of the codes, hashed with sample ids.
    """

    def __init__(self, samples: int, seed: int) -> None:
        self.samples, self.draws = samples, Draws(seed, "image_density", "evaluation")
        self.sums: dict[str, Tensor] = {}

    def update(self, network: nn.Module, batch: Batch) -> None:
        model = require(network, LatentVariable, "task=image_density")
        labels = labels_of(model, batch, "task=image_density")
        images, ids = batch["images"], batch["sample_ids"]
        for part in torch.arange(len(images)).split(max(1, _CODES_AT_ONCE // self.samples)):
            own = None if labels is None else labels[part]
            noise = self.draws.normal(ids[part].cpu(), (self.samples, model.code_size), "code").to(images)
            bound, elbo = importance_bound(model, images[part], noise, own)
            mean, log_variance = (x.double() for x in model.encode_distribution(images[part], own))
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
            nats = -bound.double()
            fresh = {
                "count": torch.tensor(float(len(part))),
                "values": torch.tensor(float(images[0].numel() * len(part))),
                "nats": nats.sum(),
                "squares": nats.square().sum(),
                "elbo": -elbo.double().sum(),
                "divergence": divergence,
                "code": mean.sum(0),
                "code_squares": mean.square().sum(0),
            }
            for name, value in fresh.items():
                self.sums[name] = self.sums.get(name, torch.zeros((), dtype=torch.float64)) + value.double().cpu()

    def state(self) -> dict[str, Tensor]:
        return dict(self.sums)

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        present = [state for state in states if state]
        self.sums = {name: torch.stack([s[name] for s in present]).sum(0) for name in present[0]} if present else {}

    def compute(self) -> dict[str, float]:
        if not self.sums:
            return {}
        count, nats = float(self.sums["count"]), float(self.sums["nats"])
        variances = self.sums["code_squares"] / count - (self.sums["code"] / count).square()
        return {
            "nats": nats / count,
            "elbo_nats": float(self.sums["elbo"]) / count,
            "divergence_nats": float(self.sums["divergence"]) / count,
            "bits_per_dimension": nats / float(self.sums["values"]) / _LOG_2,
            "active_units": float((variances > _ACTIVE).sum()),
        }

    def table(self) -> dict[str, Any]:
        """The 95 % interval of the mean is that of a normal distribution over pictures."""
        if not self.sums:
            return {}
        count = float(self.sums["count"])
        mean = float(self.sums["nats"]) / count
        half = 1.959964 * (max(float(self.sums["squares"]) / count - mean * mean, 0.0) / count) ** 0.5
        return {"count": int(count), "samples": self.samples, "intervals": {"nats": (mean - half, mean + half)}}


class ImageDensity(ImageGeneration):
    """Raw `image` uint8 [B, C, H, W] to `images` in [0, 1], binary if asked for, with `labels` where there are any."""

    monitor = ("nats", "min")

    def __init__(self, config: ImageDensityConfig) -> None:
        super().__init__(ImageGenerationConfig(seed=config.seed, normalise="unit"))
        self.options, self.num_classes = config, 0
        self.labels: list[str] = []  # names of the classes, which a conditional model is told

    def bind(self, splits: Splits) -> None:
        super().bind(splits)
        self.num_classes = int(splits.facts.get("num_classes") or 0)
        self.labels = list(splits.class_names or map(str, range(self.num_classes)))

    def state(self) -> dict[str, Any]:
        return super().state() | {"labels": self.labels}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.labels = list(state.get("labels") or [])

    def facts(self) -> dict[str, Any]:
        return super().facts() | ({"num_classes": self.num_classes} if self.num_classes else {})

    def inputs(self, batch: Batch) -> Batch:
        found = super().inputs(batch)
        if "labels" in batch:
            found["labels"] = batch["labels"]
        return {**found, "images": self._binary(found["images"], batch["sample_ids"])}

    def _binary(self, images: Tensor, sample_ids: Tensor) -> Tensor:
        if self.options.binarise == "none":
            return images
        if self.options.binarise == "threshold":
            return (images > 0.5).to(images.dtype)
        draws = Draws(self.options.seed, "image_density", "binarise")
        uniform = draws.uniform_pairs(sample_ids, tuple(images.shape[1:]), "pixels", images.dtype)
        return (uniform < images).to(images.dtype)

    def _asked(self, prompt: str | None, sample_ids: Tensor, options: PictureOptions) -> Conditions | None:
        """The class that a prompt names; without one a conditional model draws classes by chance."""
        if prompt is None or not self.labels:
            return super()._asked(prompt, sample_ids, options)
        wanted = torch.full_like(sample_ids, class_asked(prompt, self.labels))
        return Conditions(wanted=wanted, unwanted=wanted, guidance=1.0)

    def accumulator(self) -> Accumulator:
        return DensityMetrics(self.options.samples, self.options.seed)

    @torch.no_grad()
    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """Samples and real pictures, reconstructions, and walks from code to code."""
        found = super().pictures(network, splits, folder)
        examples = splits and (splits.val or splits.train)
        if not examples:
            return found
        model, like = require(network, LatentVariable, "task=image_density"), next(network.parameters())
        chosen = torch.linspace(0, len(examples) - 1, min(_SHOWN, len(examples))).long()
        batch = {name: value.to(like.device) for name, value in self.inputs(examples.collate(chosen)).items()}
        labels, mode = labels_of(model, batch, "task=image_density"), network.training
        network.eval()
        codes = model.encode_distribution(batch["images"].to(like), labels)[0]
        rows = torch.cat([batch["images"].float(), model.decode_pictures(codes, labels).float()])
        walk = self._walk(model, codes, labels)
        classes = _class_grid(model, like) if model.num_classes else None
        network.train(mode)
        for name, drawn, caption in (
            ("reconstructions", rows, "Pictures as the model sees them, and their reconstructions"),
            ("walk", walk, "Walks in a straight line from the code of one picture to that of another"),
            ("classes", classes, "One code a row, one class a column"),
        ):
            if drawn is not None:
                columns = model.num_classes if name == "classes" else len(chosen) if name != "walk" else _SHOWN
                save_grid(enlarged(_grey_levels(drawn)), folder / f"{name}.png", columns=columns)
                found.append((caption, folder / f"{name}.png"))
        return found

    def _walk(self, model: LatentVariable, codes: Tensor, labels: Tensor | None) -> Tensor | None:
        """Rows of `_SHOWN` pictures between neighbours among the chosen ones; the class, if any, is the first one's."""
        pairs = min(_WALKS, len(codes) // 2)
        if not pairs:
            return None
        share = torch.linspace(0, 1, _SHOWN, device=codes.device, dtype=codes.dtype)[None, :, None]
        first, last = codes[0 : 2 * pairs : 2, None], codes[1 : 2 * pairs : 2, None]
        path = (first + share * (last - first)).flatten(0, 1)
        own = None if labels is None else labels[0 : 2 * pairs : 2].repeat_interleave(_SHOWN)
        return model.decode_pictures(path, own)


def _class_grid(model: LatentVariable, like: Tensor) -> Tensor:
    """Every class drawn from the same few codes."""
    codes = Draws(0, "image_density", "classes").normal(torch.arange(_WALKS), (model.code_size,), "code").to(like)
    labels = torch.arange(model.num_classes, device=like.device).repeat(_WALKS)
    return model.decode_pictures(codes.repeat_interleave(model.num_classes, 0), labels)


def _grey_levels(pictures: Tensor) -> Tensor:
    return pictures.float().mul(255).round().clamp(0, 255).to(torch.uint8).cpu()


TASKS = {"image_density": ImageDensityConfig()}
