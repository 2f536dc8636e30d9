"""Multi30k: descriptions of pictures in English, translated into German and French.

D. Elliott, S. Frank, K. Sima'an, L. Specia, "Multi30K: Multilingual English-German Image Descriptions", 2016,
https://arxiv.org/abs/1605.00459; French: D. Elliott, S. Frank, L. Barrault, F. Bougares, L. Specia, "Findings of the
Second Shared Task on Multimodal Machine Translation and Multilingual Image Description", 2017,
https://arxiv.org/abs/1710.07177. The raw texts of task 1: neither tokenised nor in lower case.
"""

from dataclasses import dataclass
from typing import Literal

from layerwise.core.errors import ConfigError
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits
from layerwise.data.source import DataConfig
from layerwise.data.text_pairs import TextPairs, read_lines

Language = Literal["en", "de", "fr"]
_BASE = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
_FILES = {
    "train.de": ("726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6", 637_044),
    "train.en": ("d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f", 568_929),
    "train.fr": ("622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c", 604_242),
    "val.de": ("f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a", 24_681),
    "val.en": ("14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28", 21_650),
    "val.fr": ("ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9", 23_001),
    "test_2016_flickr.de": ("9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8", 22_890),
    "test_2016_flickr.en": ("611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9", 21_077),
    "test_2016_flickr.fr": ("6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90", 22_310),
    "test_2017_flickr.de": ("a2c89666db00c495cd8513b9d708d5a3acc205d7de312ef2bf5fb7ebc1540aee", 21_471),
    "test_2017_flickr.en": ("76a444ee25172e72695cddb13ae4a3bda59430617be88e0bb46b60504f054074", 19_138),
    "test_2017_flickr.fr": ("3ba671ceb2299f3304ffafefea7a833d08632fbaf0ba18546f8a2ec2391af496", 20_434),
}


@dataclass(frozen=True, kw_only=True)
class Multi30kConfig(DataConfig):
    """29,000 sentences to train on, 1,014 to validate, 1,000 to test.

    Args:
        source, target: the languages translated from and into.
        year: of the test part: 2016 (Flickr30k's own) or 2017.
    """

    source: Language = "en"
    target: Language = "de"
    year: Literal[2016, 2017] = 2016

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ConfigError(f"data.source={self.source} and data.target={self.target}: languages must differ.")


class Multi30k:
    """`text` and `target`; validation data is the official part."""

    def __init__(self, config: Multi30kConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read six files, from `root`, $LAYERWISE_DATA, the cache, or downloaded (1.3 MB).

        Raises:
            DataError: a file is missing, or two are not aligned.
        """
        if isinstance(self.config.val, str):
            raise ConfigError(
                f"data.val={self.config.val}: multi30k takes its own validation part or a share of train here."
            )
        both = (self.config.source, self.config.target)
        stems = {"train": "train", "val": "val", "test": f"test_{self.config.year}_flickr"}
        files = {name: _file(name) for name in (f"{stem}.{each}" for stem in stems.values() for each in both)}
        found = locate("multi30k", tuple(files.values()), self.config.root)
        lines = {name: read_lines(found[file.path].read_bytes(), str(found[file.path])) for name, file in files.items()}
        made = {part: TextPairs(*(lines[f"{stem}.{each}"] for each in both), name=stem) for part, stem in stems.items()}
        return Splits(train=made["train"], val=made["val"], test=made["test"], extras={"languages": list(both)})


def _file(name: str) -> RemoteFile:
    return RemoteFile(f"text/multi30k/{name}.gz", f"{_BASE}{name}.gz", *_FILES[name])


DATASETS = {"multi30k": Multi30kConfig()}
