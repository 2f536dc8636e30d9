"""Image generation: latents in, pictures out, compared with pictures held back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Splits
from layerwise.nn.protocols import GenerativeAdversarial, PictureSampler, require
from layerwise.ops.random import Draws
from layerwise.tasks.base import Accumulator, Batch, Task
from layerwise.tasks.preprocessing import Normalise

_MOST_VALUES = 1024  # values of a picture that the Frechet distance looks at before its principal components
_CHUNK = 16  # pictures made at once, always as many: a picture's bits do not depend on how many are asked for
_GRID = 64  # pictures of the report's grids
_SIDE = 40  # pixels that a picture in a report has at least


@dataclass(frozen=True, kw_only=True)
class ImageGenerationConfig:
    """Options of image generation.

    Args:
        components: principal components of the real pictures that the Frechet distance is measured in.
        seed: of the latents that are evaluated and shown in the report, fixed through a run.
        normalise: range of the model's pictures: "symmetric" is [-1, 1], "unit" is [0, 1].
    """

    components: PositiveInt = 64
    seed: NonNegativeInt = 0
    normalise: Literal["symmetric", "unit"] = "symmetric"


def frechet_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """Squared Frechet distance of two normal distributions.

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2))`.

    Args:
        mean_1, mean_2: float64 [D].
        covariance_1, covariance_2: float64 [D, D], symmetric, positive semidefinite.

    References:
        D. C. Dowson, B. V. Landau, "The Frechet distance between multivariate normal distributions", 1982; M. Heusel et
        al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017, equation 6.
    """
    values, vectors = torch.linalg.eigh(covariance_1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance_2 @ root).clamp(min=0).sqrt().sum()
    return float((mean_1 - mean_2).square().sum() + covariance_1.trace() + covariance_2.trace() - 2 * cross)


class GenerationMetrics(Accumulator):
    """Frechet distance and diversity of as many generated pictures as there are real ones.

    Pictures in [0, 1], averaged down to at most 1,024 values, are projected on the leading principal components of the
    real pictures of this very evaluation; the distance is taken there. No network judges, so the figure is
    deterministic and its space can be looked at: it sees shapes and brightness, not fine texture, and is not comparable
    with distances in the features of an Inception network.
    Moments are all that is kept: they add up over batches and processes.

    `diversity` is the generated pictures' total variance over that of the real ones: 1 is as varied, near 0 is
    collapse.

    Args:
        components: at most so many principal components.
        seed: of the latents, hashed with the real picture's sample id.
        lowest: value of a black pixel, -1 or 0; a white one is 1.
    """

    def __init__(self, components: int, seed: int, lowest: float = -1.0) -> None:
        self.components, self.draws, self.lowest = components, Draws(seed, "image_generation", "evaluation"), lowest
        self.moments: dict[str, Tensor] = {}

    def update(self, network: nn.Module, batch: Batch) -> None:
        images, sample_ids = batch["images"], batch["sample_ids"]
        fakes = draw_pictures(network, sample_ids, self.draws, images)
        if fakes.shape[1:] != images.shape[1:]:
            raise ConfigError(
                f"The model makes pictures of {tuple(fakes.shape[1:])}, the data has {tuple(images.shape[1:])}."
            )
        self.update_from(images, fakes)

    def update_from(self, images: Tensor, fakes: Tensor) -> None:
        """Take in real and generated pictures [B, C, H, W] in [lowest, 1] directly."""
        for name, pictures in (("real", images), ("fake", fakes)):
            x = _values(pictures, self.lowest)
            fresh = {
                f"{name}_count": torch.tensor(float(len(x)), dtype=torch.float64),
                f"{name}_sum": x.sum(0),
                f"{name}_products": x.T @ x,
            }
            self.moments |= {
                key: self.moments[key] + value if key in self.moments else value for key, value in fresh.items()
            }

    def state(self) -> dict[str, Tensor]:
        return dict(self.moments)

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        present = [state for state in states if state]
        self.moments = (
            {name: torch.stack([state[name] for state in present]).sum(0) for name in present[0]} if present else {}
        )

    def compute(self) -> dict[str, float]:
        if not self.moments:
            return {}
        (mean_1, covariance_1), (mean_2, covariance_2) = self._normal("real"), self._normal("fake")
        basis = torch.linalg.eigh(covariance_1).eigenvectors[:, -self.components :]
        distance = frechet_distance(
            basis.T @ mean_1, basis.T @ covariance_1 @ basis, basis.T @ mean_2, basis.T @ covariance_2 @ basis
        )
        return {
            "frechet_distance": distance,
            "diversity": float(covariance_2.trace() / covariance_1.trace().clamp(min=1e-12)),
        }

    def _normal(self, name: str) -> tuple[Tensor, Tensor]:
        count, total, products = (self.moments[f"{name}_{part}"] for part in ("count", "sum", "products"))
        mean = total / count
        return mean, products / count - torch.outer(mean, mean)

    def table(self) -> dict[str, Any]:
        if not self.moments:
            return {}
        covariance = self._normal("real")[1]
        kept = torch.linalg.eigvalsh(covariance)[-self.components :].sum() / covariance.trace().clamp(min=1e-12)
        return {
            "count": int(self.moments["real_count"]),
            "components": self.components,
            "variance_in_components": float(kept),
        }


def _values(pictures: Tensor, lowest: float) -> Tensor:
    """Pictures [B, C, H, W] in [lowest, 1] as rows of at most `_MOST_VALUES` values in [0, 1], float64 on the CPU."""
    channels, height, width = pictures.shape[1:]
    shrink = math.ceil(max(1.0, math.sqrt(channels * height * width / _MOST_VALUES)))
    size = (max(1, height // shrink), max(1, width // shrink))
    x = pictures.detach().double().cpu()
    return (F.adaptive_avg_pool2d(x, size) if size != (height, width) else x).flatten(1).sub(lowest).div(1 - lowest)


class ImageGeneration(Task):
    """Raw `image` uint8 [B, C, H, W] to model input `images` float [B, C, H, W] in [-1, 1] or [0, 1], at the size that
    the data has."""

    monitor = ("frechet_distance", "min")

    def __init__(self, config: ImageGenerationConfig) -> None:
        self.config = config
        self.image_size: list[int] = []
        self.channels = 0
        self._preprocessing: Normalise | None = None

    def bind(self, splits: Splits) -> None:
        first = next(split for split in (splits.train, splits.val, splits.test) if split is not None).collate(
            torch.tensor([0])
        )
        if "image" not in first:
            raise DataError(f"task=image_generation needs pictures; the data has columns {sorted(first)}.")
        self.channels, *self.image_size = first["image"].shape[1:]
        mean, std = (0.5, 0.5) if self.config.normalise == "symmetric" else (0.0, 1.0)
        self._preprocessing = Normalise([mean] * self.channels, [std] * self.channels)

    def state(self) -> dict[str, Any]:
        return {
            "image_size": self.image_size,
            "channels": self.channels,
            "preprocessing": self.preprocessing().config(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.image_size, self.channels = state["image_size"], state["channels"]
        self._preprocessing = Normalise(state["preprocessing"]["mean"], state["preprocessing"]["std"])

    def facts(self) -> dict[str, Any]:
        return {"in_channels": self.channels, "image_size": tuple(self.image_size)}

    def preprocessing(self) -> Normalise:
        if self._preprocessing is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._preprocessing

    def inputs(self, batch: Batch) -> Batch:
        return {"images": self.preprocessing()(batch["image"]), "sample_ids": batch["sample_ids"]}

    def accumulator(self) -> Accumulator:
        return GenerationMetrics(self.config.components, self.config.seed, self._lowest)

    @property
    def _lowest(self) -> float:
        return -1.0 if self.config.normalise == "symmetric" else 0.0

    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """A grid of samples on fixed latents and, with data, one of real pictures."""
        found = [("Generated pictures, from the same latents at every evaluation", folder / "generated.png")]
        save_grid(enlarged(make_pictures(network, _GRID, self.config.seed, self._lowest)), found[0][1])
        real = splits and (splits.val or splits.train)
        if real:
            chosen = torch.linspace(0, len(real) - 1, min(_GRID, len(real))).long()
            found.append(("Real pictures of the validation part", folder / "real.png"))
            save_grid(enlarged(real.collate(chosen)["image"]), found[1][1])
        return found

    def generate(
        self, network: nn.Module, *, prompt: str | None, count: int, seed: int, out: Path | None
    ) -> list[dict[str, Any]]:
        """`count` pictures: one PNG with all of them in a grid, or, where `out` is no file name, a folder with a PNG
        each.

        Picture i depends on seed and i alone. Without `out` the grid is generated.png in the current folder.

        Raises:
            ConfigError: a prompt was given, or another kind of file asked for.
        """
        if prompt is not None:
            raise ConfigError("This model generates from noise: leave --prompt out.")
        out = out or Path("generated.png")
        if out.suffix not in ("", ".png"):
            raise ConfigError(f"-o {out}: must be a file that ends in .png, or a folder.")
        made = make_pictures(network, count, seed, self._lowest)
        if out.suffix:
            save_grid(made, out)
            return [{"file": str(out), "count": count, "seed": seed}]
        rows = [{"index": i, "file": str(out / f"{i:05d}.png"), "seed": seed} for i in range(count)]
        for row, picture in zip(rows, made, strict=True):
            save_grid(picture[None], Path(row["file"]), gap=0)
        return rows


def draw_pictures(network: nn.Module, sample_ids: Tensor, draws: Draws, like: Tensor) -> Tensor:
    """Pictures [B, C, H, W] by a model's own procedure, or from normal latents by a generator.

    Args:
        sample_ids: int64 [B]; a picture depends on its own and the draws alone.
        like: gives device and dtype.
    """
    if isinstance(network, PictureSampler):
        return network.sample_pictures(sample_ids.to(like.device), draws)
    gan = require(network, GenerativeAdversarial, "task=image_generation")
    latents = draws.normal(sample_ids, (gan.latent_size,), "latents").to(like.device, like.dtype)
    return gan.generator(latents)


@torch.no_grad()
def make_pictures(network: nn.Module, count: int, seed: int, lowest: float = -1.0) -> Tensor:
    """uint8 [count, C, H, W] on the CPU; picture i is the same for every count. The network's mode is put back.

    Args:
        lowest: what the model gives for a black pixel; a white one is 1.
    """
    like, draws, mode = next(network.parameters()), Draws(seed, "image_generation", "generate"), network.training
    network.eval()
    parts = []
    for start in range(0, count, _CHUNK):
        made = draw_pictures(network, torch.arange(start, start + _CHUNK), draws, like).float()
        scaled = (made - lowest) * (255 / (1 - lowest))
        parts.append(scaled.round().clamp(0, 255).to(torch.uint8).cpu())
    network.train(mode)
    return torch.cat(parts)[:count]


def enlarged(pictures: Tensor) -> Tensor:
    """Small pictures [N, C, H, W] with every pixel repeated, so that a report shows more than a stamp."""
    factor = math.ceil(_SIDE / pictures.shape[-1])
    return pictures.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def save_grid(pictures: Tensor, path: Path, gap: int = 2, columns: int | None = None) -> None:
    """Write uint8 pictures [N, C, H, W] with one or three channels as one PNG, about as wide as high where no number of
    columns is given."""
    count, channels, height, width = pictures.shape
    if channels not in (1, 3):
        raise DataError(f"Pictures with {channels} channels cannot be written as PNG; 1 or 3 can.")
    columns = columns or math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    canvas = torch.full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = picture
    array: np.ndarray = canvas.permute(1, 2, 0).contiguous().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[:, :, 0] if channels == 1 else array).save(path)


TASKS = {"image_generation": ImageGenerationConfig()}
