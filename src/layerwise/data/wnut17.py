"""WNUT-17: new and rare names in posts, comments and answers of social media.

Derczynski, Nichols, van Erp, Limsopatham, "Results of the WNUT2017 shared task on novel and emerging entity
recognition", W-NUT 2017, https://aclanthology.org/W17-4418. CC BY 4.0.
"""

from dataclasses import dataclass

from layerwise.core.errors import ConfigError
from layerwise.data.conll import read_sentences, tagged_splits
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits
from layerwise.data.source import DataConfig

_BASE = "https://raw.githubusercontent.com/leondz/emerging_entities_17/e52a2d2a71ac1a051ca2d532eef28653c5c02603/"
_FILES = {
    "train": ("wnut17train.conll", "731820e13f71af324c6b55a1575ec2ce59fbaa2a0806f8f0400b98d56cd6a7a5", 493_781),
    "val": ("emerging.dev.conll", "e053b752b8155113ca66e7db08af5f2f5f43ab993694e4774f1ec5bad42312d8", 114_749),
    "test": ("emerging.test.annotated", "2aa79b764e56ec9264a1b30fdd9b70195bd00ff400b62edd8f399d5f13c178f0", 192_425),
}


@dataclass(frozen=True, kw_only=True)
class WNUT17Config(DataConfig):
    """WNUT-17: 3,394 training, 1,009 validation and 1,287 test sentences, six types of names."""


class WNUT17:
    """`text`, words with blanks between, and `tags`; validation data is the official development part."""

    def __init__(self, config: WNUT17Config) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the three files, from `root`, $LAYERWISE_DATA, the cache, or downloaded (0.8 MB).

        Raises:
            DataError: a file is missing or damaged.
        """
        if isinstance(self.config.val, str):
            raise ConfigError(
                f"data.val={self.config.val}: wnut17 takes its own validation part or a share of train, not a path."
            )
        files = {
            part: RemoteFile(f"text/wnut17/{name}", f"{_BASE}{name}", digest, size)
            for part, (name, digest, size) in _FILES.items()
        }
        found = locate("wnut17", tuple(files.values()), self.config.root)
        parts = {}
        for part, file in files.items():
            path = found[file.path]
            parts[part] = read_sentences(path.read_bytes(), str(path), 0, -1, "utf-8")
        return tagged_splits(parts)


DATASETS = {"wnut17": WNUT17Config()}
