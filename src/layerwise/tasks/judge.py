"""A classifier's eye on generated pictures: measures in its features, the same for every model of a data set.

What is compared is what a person would see: pictures as bytes, brought to the size and channels that the classifier was
trained on.

The Frechet Inception distance has a published definition of its own: M. Heusel et al., "GANs trained by a two
time-scale update rule converge to a local Nash equilibrium", 2017, https://arxiv.org/abs/1706.08500, as pytorch-fid
(M. Seitzer, 2020) computes it. Pictures are resized as numbers, and covariances are divided by N - 1.

Shapes: B pictures, D features.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.data.examples import Examples
from layerwise.nn.protocols import Features, require
from layerwise.ops.sample_measures import frechet_distance, nearest_points, normal_of, precision_and_recall
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.pictures import PictureTask

NEIGHBOURS = 3  # of precision and recall, as in Kynkaanniemi et al. (2019)
_AT_ONCE, _MOST_PIXELS = 256, 1 << 22  # pictures looked at, and pixels of them in all
_INCEPTION_SIDE = 299  # of the Frechet Inception distance
_LUMA = (0.299, 0.587, 0.114)  # grey of colours, ITU-R BT.601


class Judge:
    """A trained picture classifier without its head.

    Args:
        network: in eval mode; has features.
        task: says how pictures are prepared for it.
        name: how a person asked for it.
        fingerprint: hash of its weights and of how it was trained.
        border: pixels on every side of the pictures to be judged that are padding, and are cut off first.
        published: the network is that of the Frechet Inception distance, and all is done as published for it.
        most_training: training pictures that samples are held against, evenly spaced.

    Raises:
        UnsupportedError: the network has no features.
    """

    def __init__(
        self,
        network: nn.Module,
        task: PictureTask,
        name: str,
        fingerprint: str,
        border: int = 0,
        *,
        published: bool = False,
        most_training: int = 100_000,
    ) -> None:
        self.network, self.task, self.name, self.fingerprint, self.border = network, task, name, fingerprint, border
        self.published, self.most_training = published, most_training
        size = (_INCEPTION_SIDE, _INCEPTION_SIDE) if published else task.image_size
        self._at_once = max(1, min(_AT_ONCE, _MOST_PIXELS // math.prod(size)))
        self._eye = require(network, Features, f"task.judge={name}")
        self._real: dict[bytes, Tensor] = {}
        self._training: Tensor | None = None

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """float32 [B, D] on the CPU, of uint8 pictures [B, C, H, W] of any size, with one or three channels."""
        found: list[Tensor] = []
        for inputs in self._inputs(pictures):
            with torch.autocast(inputs.device.type, enabled=False):  # whatever precision the judged network has
                x = self._eye.forward_features(inputs)
            found.append((x.mean(1) if x.dim() == 3 else x).flatten(1).float().cpu())
        return torch.cat(found)

    def normal(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [D] and covariance [D, D] of features [B, D], float64."""
        return normal_of(features, correction=1 if self.published else 0)

    @property
    def class_names(self) -> list[str]:
        """What it tells apart."""
        return self.task.class_names

    @torch.no_grad()
    def recognise(self, pictures: Tensor) -> Tensor:
        """The likeliest class, int64 [B], place in `class_names`, of uint8 pictures [B, C, H, W]."""
        found: list[Tensor] = []
        for inputs in self._inputs(pictures):
            with torch.autocast(inputs.device.type, enabled=False):
                found.append(self.network(inputs).argmax(1).cpu())
        return torch.cat(found)

    def real_features(self, pictures: Tensor) -> Tensor:
        """`features` of pictures that come again in every evaluation: computed once."""
        key = hashlib.sha256(pictures.cpu().contiguous().numpy().tobytes()).digest()
        if key not in self._real:
            self._real[key] = self.features(pictures)
        return self._real[key]

    def training_places(self, examples: Examples) -> Tensor:
        """Places of the training pictures that samples are held against, int64 [at most `most_training`]."""
        count = min(len(examples), self.most_training)
        return torch.linspace(0, len(examples) - 1, count, dtype=torch.float64).round().long()

    def training_features(self, examples: Examples) -> Tensor:
        """`features` of `training_places(examples)`, computed once: a run has one training part."""
        if self._training is None:
            parts = self.training_places(examples).split(_AT_ONCE)
            self._training = torch.cat([self.features(examples.collate(ids)["image"]) for ids in parts])
        return self._training

    def _inputs(self, pictures: Tensor) -> Iterator[Tensor]:
        """What the network takes, some pictures at a time."""
        like = next(self.network.parameters())
        for part in pictures.split(self._at_once):
            shown = self._shown(part)
            inputs = inception_inputs(shown) if self.published else self.task.preprocessing()(self._resized(shown))
            yield inputs.to(like.device, like.dtype)

    def _shown(self, pictures: Tensor) -> Tensor:
        """uint8 without padding, with the classifier's channels."""
        if self.border:
            pictures = pictures[..., self.border : -self.border, self.border : -self.border]
        if pictures.shape[1] == 3 and self.task.channels == 1:
            weights = torch.tensor(_LUMA, device=pictures.device).view(1, 3, 1, 1)
            pictures = (pictures.float() * weights).sum(1, keepdim=True).round().to(torch.uint8)
        elif pictures.shape[1] == 1 and self.task.channels == 3:
            pictures = pictures.expand(-1, 3, -1, -1)
        return pictures

    def _resized(self, pictures: Tensor) -> Tensor:
        """uint8 at the classifier's size."""
        if list(pictures.shape[2:]) != list(self.task.image_size):
            size = tuple(self.task.image_size)
            resized = F.interpolate(pictures.float(), size, mode="bicubic", antialias=True, align_corners=False)
            pictures = resized.round().clamp(0, 255).to(torch.uint8)
        return pictures


def inception_inputs(pictures: Tensor) -> Tensor:
    """Pictures as the network of the Frechet Inception distance takes them: resized as numbers in [0, 1], bilinearly
    and without antialiasing, then brought to [-1, 1].

    Args:
        pictures: uint8 [B, 3, H, W].

    Returns:
        float32 [B, 3, 299, 299].
    """
    size = _INCEPTION_SIDE, _INCEPTION_SIDE
    return 2 * F.interpolate(pictures.float() / 255, size, mode="bilinear", align_corners=False) - 1


class JudgedMetrics(Accumulator):
    """Generated pictures against as many real ones in a judge's features.

    `feature_distance` is the Frechet distance; `precision` the share of generated pictures that lie among real ones,
    `recall` the share of real ones that lie among generated ones. `nearest_ratio` is how far a generated picture is
    from the training picture nearest to it, over how far a real one held back is, medians of both: 1 is as far, near 0
    is copying.

    Args:
        judge: see `Judge`.
        most: pictures of each kind, the first that come.
        training: the training part that samples are held against; None leaves `nearest_ratio` out.
    """

    def __init__(self, judge: Judge, most: int, training: Examples | None = None) -> None:
        self.judge, self.most, self.training = judge, most, training
        self.rows: dict[str, Tensor] = {}

    def update(self, network: nn.Module, batch: Batch) -> None:
        raise NotImplementedError("pictures come by `update_from`")

    def update_from(self, real: Tensor, made: Tensor) -> None:
        """Take in real and generated pictures, uint8 [B, C, H, W]; as many of each count as there are of both."""
        held = len(self.rows["made"]) if self.rows else 0
        count = min(self.most - held, len(real), len(made))
        if count > 0:
            fresh = {"real": self.judge.real_features(real[:count]), "made": self.judge.features(made[:count])}
            self.rows = {name: torch.cat([self.rows[name], x]) if self.rows else x for name, x in fresh.items()}

    def state(self) -> dict[str, Tensor]:
        return dict(self.rows)

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        present = [state for state in states if state]
        self.rows = {name: torch.cat([state[name] for state in present]) for name in present[0]} if present else {}

    def compute(self) -> dict[str, float]:
        if not self.rows:
            return {}
        real, made = self.rows["real"], self.rows["made"]
        found = {"feature_distance": frechet_distance(*self.judge.normal(real), *self.judge.normal(made))}
        if len(real) > NEIGHBOURS:
            found["precision"], found["recall"] = precision_and_recall(real, made, NEIGHBOURS)
        if (distances := self.nearest()) is not None:
            found["nearest_ratio"] = float(distances[1].median() / distances[0].median().clamp(min=1e-12))
        return found

    def nearest(self) -> tuple[Tensor, Tensor] | None:
        """Distances to the nearest training picture, of real pictures held back and of generated ones."""
        if self.training is None or not self.rows:
            return None
        held = self.judge.training_features(self.training)
        return nearest_points(self.rows["real"], held)[0], nearest_points(self.rows["made"], held)[0]

    def table(self) -> dict[str, Any]:
        """With `feature_distance_of_training`: that of as many training pictures, in place of generated ones."""
        count = len(self.rows["made"]) if self.rows else 0
        floor: dict[str, float] = {}
        if self.training is not None and count:
            held = self.judge.training_features(self.training)
            some = held[torch.linspace(0, len(held) - 1, min(count, len(held)), dtype=torch.float64).round().long()]
            distance = frechet_distance(*self.judge.normal(self.rows["real"]), *self.judge.normal(some))
            floor = {"feature_distance_of_training": distance}
        return {
            **floor,
            "judge": self.judge.name,
            "judge_fingerprint": self.judge.fingerprint,
            "judged": count,
            **({"judged_neighbours": NEIGHBOURS} if count > NEIGHBOURS else {}),
        }


def draw_distances(real: Tensor, made: Tensor, path: Path) -> Path:
    """Two cumulative curves: the share of pictures that have a training picture within a distance. A PNG file.

    Args:
        real, made: distances to the nearest training picture, of pictures held back and of generated ones.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # no window, whatever MPLBACKEND says
    axes = figure.subplots()
    for distances, label, style in ((real, "real, held back", "--"), (made, "generated", "-")):
        ordered = distances.sort().values
        share = torch.arange(1, len(ordered) + 1, dtype=torch.float64) / len(ordered)
        axes.step(ordered.numpy(), share.numpy(), style, where="post", label=label)
    axes.set_xlabel("distance to the nearest training picture, in the judge's features")
    axes.set_ylabel("share of pictures")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return path
