"""What tasks on pictures share: what they learn of the data, normalisation, model inputs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from layerwise.core.config import PositiveFloat, parse
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Examples, Splits
from layerwise.data.fit import Fit
from layerwise.data.pictures import MAY_MOVE, decode_image, moving_note, probe_image
from layerwise.tasks.base import Batch, Task
from layerwise.tasks.preprocessing import Normalise

Scale = Literal["data", "unit", "symmetric"]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Numbers that pictures in [0, 1] are normalised with, `(x - mean) / std`.

    Args:
        mean, std: one value a channel.
    """

    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ConfigError(f"mean has {len(self.mean)} values and std {len(self.std)}: one a channel is needed.")


class PictureTask(Task):
    """Raw `image` uint8 [B, C, H, W] to model input `images` float [B, C, H, W]; other columns stay as they are.

    Attributes:
        class_names: in order of label; empty where the data has no classes.
        image_size: [height, width] of the training pictures.
        channels: of the training pictures.
        fit: how a picture of any size is brought to `image_size`.
    """

    def __init__(self) -> None:
        self.class_names: list[str] = []
        self.image_size: list[int] = []
        self.channels = 0
        self.fit: Fit | None = None
        self._preprocessing: Normalise | None = None
        self._moving: list[str] = []  # animations decoded since they were told

    def bind_pictures(self, splits: Splits, needs: set[str], scale: Scale | Statistics, purpose: str) -> None:
        """Learn classes, size, channels and normalisation.

        Args:
            needs: columns that the task cannot do without, `image` apart.
            scale: "data" subtracts the training pictures' mean and divides by their deviation, "unit" gives [0, 1],
                "symmetric" gives [-1, 1]; or the numbers themselves.
            purpose: what the columns are, for the message.

        Raises:
            DataError: a column is missing.
            ConfigError: statistics of another number of channels.
        """
        part = next((split for split in (splits.train, splits.val, splits.test) if split is not None), None)
        columns = part.collate(torch.tensor([0])) if part is not None else {}
        if part is None:
            raise DataError(f"{purpose}; the data has no examples.")
        if missing := {"image", *needs} - set(columns):
            raise DataError(f"{purpose}; the data has no column {', '.join(sorted(missing))}.")
        classes = splits.facts.get("num_classes") or 0
        self.class_names = splits.class_names or [str(k) for k in range(classes)]
        self.channels, *self.image_size = columns["image"].shape[1:]
        given = splits.extras.get("fit")
        self.fit = given if isinstance(given, Fit) else None
        if isinstance(scale, Statistics):
            if len(scale.mean) != self.channels:
                raise ConfigError(
                    f"task.normalise: {len(scale.mean)} means for pictures of {self.channels} channels; one a channel "
                    "is needed."
                )
            self._preprocessing = Normalise(scale.mean, scale.std)
        elif scale == "data":
            known = splits.normalisation or measure_normalisation(part)
            self._preprocessing = Normalise(known["mean"], known["std"])
        else:
            mean, std = (0.0, 1.0) if scale == "unit" else (0.5, 0.5)
            self._preprocessing = Normalise([mean] * self.channels, [std] * self.channels)

    def state(self) -> dict[str, Any]:
        return {
            "class_names": self.class_names,
            "image_size": self.image_size,
            "channels": self.channels,
            "fit": asdict(self.fit) if self.fit is not None else None,
            "preprocessing": self.preprocessing().config(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.class_names, self.image_size, self.channels = state["class_names"], state["image_size"], state["channels"]
        fit = state.get("fit")
        self.fit = None if fit is None else parse(Fit, fit, "fit")
        self._preprocessing = Normalise(state["preprocessing"]["mean"], state["preprocessing"]["std"])

    def facts(self) -> dict[str, Any]:
        classes = {"num_classes": len(self.class_names)} if self.class_names else {}
        return {**classes, "in_channels": self.channels}

    def preprocessing(self) -> Normalise:
        if self._preprocessing is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._preprocessing

    def read_pictures(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Files as the training pictures were read: the same size, reached in the same way, and channels."""
        height, width = self.image_size
        fit = self.fit or Fit(size=(height, width))
        read = [(name, {"image": decode_image(Path(name), fit, self.channels)[None]}) for name in inputs]
        self.note_moving(inputs)
        return read

    def note_moving(self, inputs: Sequence[str]) -> None:
        """Keep for `remarks` which of these files are animations."""
        self._moving += [name for name in inputs if name.lower().endswith(MAY_MOVE) and probe_image(Path(name)).moves]

    def remarks(self) -> list[str]:
        note, self._moving = moving_note(self._moving), []
        return [note] if note else []

    def inputs(self, batch: Batch) -> Batch:
        made = {name: value for name, value in batch.items() if name != "image"}
        return {"images": self.preprocessing()(batch["image"]), **made}


def measure_normalisation(examples: Examples, most: int = 10_000) -> dict[str, list[float]]:
    """Mean and deviation of pixels in [0, 1], per channel, over at most `most` evenly spaced examples."""
    count = min(most, len(examples))
    chosen = torch.linspace(0, len(examples) - 1, count).long()
    total = squares = torch.zeros(1, dtype=torch.float64)
    pixels = 0
    for ids in chosen.split(512):
        image = examples.collate(ids)["image"].double() / 255
        total, squares = total + image.sum((0, 2, 3)), squares + image.square().sum((0, 2, 3))
        pixels += image.numel() // image.shape[1]
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp(min=1e-6).sqrt()
    return {"mean": [round(v, 6) for v in mean.tolist()], "std": [round(v, 6) for v in std.tolist()]}
