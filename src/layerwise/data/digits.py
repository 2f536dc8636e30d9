"""The handwritten digits that come with scikit-learn: 1,797 grey pictures of 8 x 8 pixels, ten classes. No download.

They are the test part of "Optical recognition of handwritten digits" (Alpaydin and Kaynak 1998, UCI,
https://doi.org/10.24432/C50P49). The file is read from the installed package without importing it: its wheels bring a
second OpenMP runtime, which slows torch.
"""

import csv
import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from layerwise.core.config import PictureSize
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits, Subset, TensorExamples
from layerwise.data.source import DataConfig
from layerwise.data.splits import stratified_split

_FILE = "digits.csv.gz"
_HIGHEST = 16  # pixels count the black dots in 4 x 4 cells
_TEST_SHARE, _VAL_SHARE, _SPLIT_SEED = 0.2, 0.1, 1998


@dataclass(frozen=True, kw_only=True)
class DigitsConfig(DataConfig):
    """Digits.

    Args:
        size: height and width that pictures are enlarged to, bilinearly. None keeps 8 x 8.
    """

    size: PictureSize | None = None


class Digits:
    """`image` uint8 [1, *size] (0..16 dots scaled to 0..255 and rounded), `labels` 0..9.

    The split is fixed whatever the run's seed: of every class a fifth is test and a tenth validation data.
    """

    def __init__(self, config: DigitsConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the file.

        Raises:
            DataError: scikit-learn's data file is not installed, or `root` has none.
        """
        path = self._path()
        try:
            with gzip.open(path, "rt", newline="") as handle:
                table = np.array(list(csv.reader(handle)), dtype=np.float64)
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{path} is not scikit-learn's {_FILE}: {error}.") from error
        image = torch.from_numpy(table[:, :-1]).mul(255.0 / _HIGHEST).view(-1, 1, 8, 8)
        if self.config.size is not None:
            image = F.interpolate(image, self.config.size, mode="bilinear", antialias=True)
        labels = torch.from_numpy(table[:, -1]).long()
        whole = TensorExamples({"image": image.round().clamp(0, 255).to(torch.uint8), "labels": labels})
        rest, test = stratified_split(len(labels), _TEST_SHARE, _SPLIT_SEED, labels=labels, name="digits-test")
        train, val = stratified_split(
            len(rest), _VAL_SHARE / (1 - _TEST_SHARE), _SPLIT_SEED, labels=labels[rest], name="digits-val"
        )
        pixels = whole.columns["image"][rest[train]].double() / 255
        height, width = image.shape[-2:]
        return Splits(
            train=Subset(whole, rest[train]),
            val=Subset(whole, rest[val]),
            test=Subset(whole, test),
            facts={"num_classes": 10, "in_channels": 1, "image_size": (height, width), "in_features": height * width},
            class_names=[str(digit) for digit in range(10)],
            normalisation={"mean": [pixels.mean().item()], "std": [pixels.std().item()]},
        )

    def _path(self) -> Path:
        if self.config.root is not None:
            root = Path(self.config.root).expanduser()
            path = root / _FILE if root.is_dir() else root
        else:
            package = importlib.util.find_spec("sklearn")
            if package is None or not package.submodule_search_locations:
                raise DataError("digits come with scikit-learn, which is not installed: pip install scikit-learn.")
            path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / _FILE
        if not path.is_file():
            raise DataError(f"digits: there is no file {path}.")
        return path


DATASETS = {"digits": DigitsConfig()}
