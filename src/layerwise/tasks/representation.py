"""Representation learning: judged by a linear probe on few labels, beside the same probe on raw pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.core.errors import DataError, UnsupportedError
from layerwise.data.examples import Examples, Splits
from layerwise.nn.protocols import Features, require
from layerwise.ops.random import permutation
from layerwise.tasks.base import Accumulator, Batch, wilson_interval
from layerwise.tasks.picture_grids import save_grid
from layerwise.tasks.pictures import PictureTask

_STRENGTHS = tuple(10.0**k for k in range(-4, 5))  # of the ridge, relative to the mean squared length of a sample
_QUERIES, _NEIGHBOURS, _SHOWN = 8, 7, 1000  # of the report's picture of nearest neighbours


@dataclass(frozen=True, kw_only=True)
class RepresentationConfig:
    """Options of representation learning.

    Args:
        labels_per_class: labelled training pictures a class that a probe learns from.
        probes: probes, each on labels of its own, whose accuracies are averaged.
        seed: of the choice of labels.
    """

    labels_per_class: PositiveInt = 10
    probes: PositiveInt = 5
    seed: NonNegativeInt = 0


class RidgeProbe:
    """Ridge regression on one-hot targets, its strength chosen by the leave-one-out error; float64, in closed form.

    With standardised features X, centred targets Y and the Gram matrix `X X' = U diag(s) U'`, predictions on the
    training samples are `H Y` with `H = 1 1'/N + U diag(s / (s + a)) U'`, and the error of leaving sample i out is
    `(y_i - (H y)_i) / (1 - H_ii)`.

    Args:
        features: [N, D].
        labels: int64 [N].
        num_classes: classes.

    References:
        R. Rifkin, R. Lippert, "Notes on regularized least squares", MIT technical report, 2007, section 4.
    """

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int) -> None:
        x = features.detach().double().cpu()
        self.mean, deviation = x.mean(0), x.std(0, correction=0)
        self.scale = torch.where(deviation > 1e-8, 1 / deviation.clamp(min=1e-8), torch.zeros_like(deviation))
        x = (x - self.mean) * self.scale
        targets = torch.nn.functional.one_hot(labels.cpu(), num_classes).double()
        self.offset = targets.mean(0)
        y = targets - self.offset
        s, u = torch.linalg.eigh(x @ x.T)
        s, uy = s.clamp(min=0), u.T @ y
        self.strength, best = 0.0, float("inf")
        for relative in _STRENGTHS:
            strength = relative * max(float(s.mean()), 1e-12)
            shrink = s / (s + strength)
            leverage = 1 / len(x) + (u.square() * shrink).sum(1)
            error = float(((y - u @ (shrink[:, None] * uy)) / (1 - leverage).clamp(min=1e-9)[:, None]).square().mean())
            if error < best:
                self.strength, best = strength, error
        self.weight = x.T @ (u @ (uy / (s + self.strength)[:, None]))

    def predict(self, features: Tensor) -> Tensor:
        """Scores [B, classes] of features [B, D]; the largest is the class."""
        return ((features.detach().double().cpu() - self.mean) * self.scale) @ self.weight + self.offset


class ProbeMetrics(Accumulator):
    """Accuracies of probes on the network's features and on raw pixels, each the mean over sets of labelled pictures.

    Args:
        images: labelled pictures as model inputs, [P, N, C, H, W] for P probes.
        labels: int64 [P, N].
        num_classes: classes.
    """

    def __init__(self, images: Tensor, labels: Tensor, num_classes: int) -> None:
        self.images, self.labels, self.num_classes = images, labels, num_classes
        self.right = torch.zeros(2, len(images), dtype=torch.float64)  # features, pixels
        self.count = torch.zeros((), dtype=torch.float64)
        self._probes: list[list[RidgeProbe]] | None = None

    def _fit(self, encoder: Features, like: Tensor) -> list[list[RidgeProbe]]:
        sets = list(zip(self.images, self.labels, strict=True))
        on_features = [
            RidgeProbe(encoder.forward_features(images.to(like)), labels, self.num_classes) for images, labels in sets
        ]
        return [on_features, [RidgeProbe(images.flatten(1), labels, self.num_classes) for images, labels in sets]]

    def update(self, network: nn.Module, batch: Batch) -> None:
        encoder, images, labels = (
            require(network, Features, "task=representation"),
            batch["images"],
            batch["labels"].cpu(),
        )
        if self._probes is None:
            self._probes = self._fit(encoder, images)
        for row, (probes, values) in enumerate(
            zip(self._probes, (encoder.forward_features(images), images.flatten(1)), strict=True)
        ):
            for index, probe in enumerate(probes):
                self.right[row, index] += (probe.predict(values).argmax(1) == labels).sum()
        self.count += len(labels)

    def state(self) -> dict[str, Tensor]:
        return {"right": self.right, "count": self.count}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.right, self.count = (torch.stack([state[name] for state in states]).sum(0) for name in ("right", "count"))

    def compute(self) -> dict[str, float]:
        if self.count == 0:
            return {}
        features, pixels = (self.right / self.count).mean(1).tolist()
        return {"probe_accuracy": features, "pixel_accuracy": pixels}

    def table(self) -> dict[str, Any]:
        count = int(self.count)
        rows = [
            {"probe": i, "features": float(f), "pixels": float(p)}
            for i, (f, p) in enumerate((self.right / max(count, 1)).T)
        ]
        mean = self.right.mean(1).tolist()
        intervals = {
            name: wilson_interval(value, count)
            for name, value in zip(("probe_accuracy", "pixel_accuracy"), mean, strict=True)
        }
        return {"probes": rows, "labels": int(self.labels.shape[1]), "count": count, "intervals": intervals}


class Representation(PictureTask):
    """Raw `image` (and `image_2`, a second view) uint8 [B, C, H, W] to `images` (and `images_2`), normalised floats.

    Labels are used by the probe alone: training sees none.
    """

    monitor = ("probe_accuracy", "max")

    def __init__(self, config: RepresentationConfig) -> None:
        super().__init__()
        self.config = config
        self._labelled: tuple[Tensor, Tensor] | None = None  # pictures uint8 [P, N, C, H, W] and labels [P, N]

    def bind(self, splits: Splits) -> None:
        if splits.train is None:
            raise DataError("task=representation needs a training part, whose labels the probe learns from.")
        needs = "task=representation needs pictures with a class each, for its probe"
        self.bind_pictures(splits, {"labels"}, "data", needs)
        if not self.class_names:
            raise DataError(f"{needs}; the data has no classes.")
        self._labelled = self._choose(splits.train, len(self.class_names))

    def _choose(self, train: Examples, classes: int) -> tuple[Tensor, Tensor]:
        """`probes` sets of labelled pictures with no picture in two of them."""
        labels, each = train.labels(), self.config.labels_per_class
        if labels is None:
            raise DataError("task=representation needs one class a picture.")
        chosen = []
        for k in range(classes):
            members = (labels == k).nonzero().squeeze(1)
            wanted = each * self.config.probes
            if len(members) < wanted:
                raise DataError(
                    f"class {self.class_names[k]!r} has {len(members)} training pictures; {self.config.probes} probes "
                    f"with {each} labels a class need {wanted}. Lower task.probes or task.labels_per_class."
                )
            chosen.append(
                members[permutation(len(members), self.config.seed, "probe", k)[:wanted]].view(self.config.probes, each)
            )
        indices = torch.cat(chosen, dim=1)
        found = train.collate(indices.flatten())
        return found["image"].unflatten(0, indices.shape), found["labels"].view(indices.shape)

    def inputs(self, batch: Batch) -> Batch:
        names = {"image": "images", "image_2": "images_2"}
        return {
            names.get(name, name): self.preprocessing()(value) if name in names else value
            for name, value in batch.items()
        }

    def accumulator(self) -> ProbeMetrics:
        if self._labelled is None:
            raise UnsupportedError("The probe needs labelled training pictures: evaluate this model with its data.")
        pictures, labels = self._labelled
        images = self.preprocessing()(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        return ProbeMetrics(images, labels, len(self.class_names))

    @torch.no_grad()
    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """Rows of a validation picture and those whose features are nearest to its own."""
        examples = splits and (splits.val or splits.train)
        if not examples:
            return []
        encoder, like = require(network, Features, "task=representation"), next(network.parameters())
        images = examples.collate(torch.linspace(0, len(examples) - 1, min(_SHOWN, len(examples))).long())["image"]
        mode = network.training
        network.eval()
        features = torch.cat(
            [encoder.forward_features(self.preprocessing()(part).to(like)).float().cpu() for part in images.split(256)]
        )
        network.train(mode)
        features = torch.nn.functional.normalize(features, dim=1)
        columns = min(1 + _NEIGHBOURS, len(images))
        queries = torch.linspace(0, len(images) - 1, min(_QUERIES, len(images))).long()
        likeness = features[queries] @ features.T
        likeness[torch.arange(len(queries)), queries] = 2.0  # the picture itself comes first
        nearest = likeness.topk(columns, dim=1).indices
        save_grid(images[nearest.flatten()], folder / "neighbours.png", columns=columns)
        return [
            ("Each row: a validation picture, then those with the most similar features", folder / "neighbours.png")
        ]


TASKS = {"representation": RepresentationConfig()}
