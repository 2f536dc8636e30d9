"""Reconstruction of pictures from a small code, beside principal components of the same size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Examples, Splits
from layerwise.nn.protocols import Autoencoder, require
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.picture_grids import enlarged, save_grid
from layerwise.tasks.pictures import PictureTask

_MOST_VALUES = 4096  # values of a picture up to which principal components are computed: the covariance is its square
_SHOWN = 12  # pictures of the report, and columns of its grid


@dataclass(frozen=True, kw_only=True)
class ReconstructionTaskConfig:
    """Reconstruction has no options of its own: pictures are taken to [0, 1]."""


@dataclass(frozen=True)
class PrincipalComponents:
    """Mean [V] and orthonormal directions [V, V] of the training pictures, by falling variance; float64.

    References:
        K. Pearson, "On lines and planes of closest fit to systems of points in space", 1901.
    """

    mean: Tensor
    directions: Tensor

    def reconstruct(self, values: Tensor, size: int) -> Tensor:
        """The closest points [B, V] to values [B, V] among those that the first `size` directions reach."""
        basis = self.directions[:, :size]
        return self.mean + ((values - self.mean) @ basis) @ basis.T


def principal_components(examples: Examples) -> PrincipalComponents:
    """Of the pictures' values in [0, 1], by the eigenvectors of their covariance."""
    count, total, products = len(examples), torch.zeros(0), torch.zeros(0)
    for index, ids in enumerate(torch.arange(count).split(2048)):
        x = examples.collate(ids)["image"].flatten(1).double() / 255
        total = x.sum(0) if index == 0 else total + x.sum(0)
        products = x.T @ x if index == 0 else products + x.T @ x
    mean = total / count
    directions = torch.linalg.eigh(products / count - torch.outer(mean, mean)).eigenvectors.flip(1)
    return PrincipalComponents(mean, directions)


class ReconstructionMetrics(Accumulator):
    """Squared error a picture, summed over its values in [0, 1]: the network's, and that of as many principal
    components as its code has numbers.

    Args:
        components: of the training pictures; None leaves them out.
    """

    def __init__(self, components: PrincipalComponents | None) -> None:
        self.components, self.code_size = components, 0
        # Count, sum and sum of squares of the network's errors, sum of the principal components' errors.
        self.sums = torch.zeros(4, dtype=torch.float64)

    def update(self, network: nn.Module, batch: Batch) -> None:
        model, images = require(network, Autoencoder, "task=reconstruction"), batch["images"]
        errors = _errors(images, model.decode(model.encode(images)).double().sigmoid())
        found = [torch.tensor(float(len(images))), errors.sum(), errors.square().sum(), torch.zeros(())]
        if self.components is not None:
            values = images.flatten(1).double().cpu()
            found[3] = _errors(values, self.components.reconstruct(values, model.code_size)).sum()
        self.sums += torch.stack([value.double().cpu() for value in found])
        self.code_size = model.code_size

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "code_size": torch.tensor(self.code_size)}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = torch.stack([state["sums"] for state in states]).sum(0)
        self.code_size = max(int(state["code_size"]) for state in states)

    def compute(self) -> dict[str, float]:
        count, total, _, by_components = self.sums.tolist()
        if not count:
            return {}
        beside = {"pca_squared_error": by_components / count} if self.components is not None else {}
        return {"squared_error": total / count, **beside}

    def table(self) -> dict[str, Any]:
        """The 95 % interval of the mean error is that of a normal distribution."""
        count, total, squares, _ = self.sums.tolist()
        if not count:
            return {}
        mean = total / count
        half = 1.959964 * (max(squares / count - mean * mean, 0.0) / count) ** 0.5
        intervals = {"squared_error": (mean - half, mean + half)}
        return {"count": int(count), "code_size": self.code_size, "intervals": intervals}


def _errors(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Sum of squares a picture, float64 [B]."""
    return (images.double() - reconstructions.double()).square().flatten(1).sum(1)


class ReconstructionTask(PictureTask):
    """Raw `image` uint8 [B, C, H, W] to `images` in [0, 1]; labels, where there are any, are not looked at."""

    monitor = ("squared_error", "min")
    predicts = "files"

    def __init__(self, config: ReconstructionTaskConfig) -> None:
        super().__init__()
        self.config = config
        self._components: PrincipalComponents | None = None

    def bind(self, splits: Splits) -> None:
        self.bind_pictures(splits, set(), "unit", "task=reconstruction needs pictures")
        if splits.train is None:
            raise DataError("task=reconstruction needs a training part, whose principal components it is compared to.")
        values = self.channels * self.image_size[0] * self.image_size[1]
        self._components = principal_components(splits.train) if values <= _MOST_VALUES else None

    def facts(self) -> dict[str, Any]:
        return {"in_channels": self.channels, "image_size": tuple(self.image_size)}

    def inputs(self, batch: Batch) -> Batch:
        found = {"images": self.preprocessing()(batch["image"])}
        return found | ({"sample_ids": batch["sample_ids"]} if "sample_ids" in batch else {})

    def accumulator(self) -> ReconstructionMetrics:
        return ReconstructionMetrics(self._components)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        return self.read_pictures(inputs)

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """Squared error and code of each picture: what the network has not learned to draw has a large error."""
        model = require(network, Autoencoder, "task=reconstruction")
        codes = model.encode(batch["images"])
        errors = _errors(batch["images"], model.decode(codes).double().sigmoid())
        return [
            {"squared_error": error, "code": code}
            for error, code in zip(errors.tolist(), codes.float().tolist(), strict=True)
        ]

    @torch.no_grad()
    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """Rows of originals, of their reconstructions and of those from principal components."""
        examples = splits and (splits.val or splits.train)
        if not examples:
            return []
        model, like = require(network, Autoencoder, "task=reconstruction"), next(network.parameters())
        originals = examples.collate(torch.linspace(0, len(examples) - 1, min(_SHOWN, len(examples))).long())["image"]
        images = self.preprocessing()(originals)
        mode = network.training
        network.eval()
        rows = [images, model.decode(model.encode(images.to(like))).sigmoid().float().cpu()]
        network.train(mode)
        caption = "Pictures and their reconstructions"
        if self._components is not None:
            values = self._components.reconstruct(images.flatten(1).double(), model.code_size)
            rows.append(values.view(images.shape).float())
            caption = (
                f"Pictures, their reconstructions from {model.code_size} numbers, and those from "
                f"{model.code_size} principal components"
            )
        drawn = torch.cat(rows).mul(255).round().clamp(0, 255).to(torch.uint8)
        save_grid(enlarged(drawn), folder / "reconstructions.png", columns=len(originals))
        return [(caption, folder / "reconstructions.png")]


TASKS = {"reconstruction": ReconstructionTaskConfig()}
