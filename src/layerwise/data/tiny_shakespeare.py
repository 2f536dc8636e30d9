"""Tiny Shakespeare: 1,115,394 characters of the plays, 65 of them distinct.

Collected by Andrej Karpathy for char-rnn (2015), https://github.com/karpathy/char-rnn. The text is in the public
domain. Published validation
losses in nats a character (README of karpathy/nanoGPT): 1.88 for a GPT of 4 layers and width 128 after 2,000 steps on a
CPU, 1.4697 for 6
layers and width 384 on a GPU.
"""

from dataclasses import dataclass

from layerwise.core.config import Fraction
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits
from layerwise.data.text import TextConfig, text_splits

FILE = RemoteFile(
    path="text/tinyshakespeare/input.txt",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    bytes=1_115_394,
)


@dataclass(frozen=True, kw_only=True)
class TinyShakespeareConfig(TextConfig):
    """Options as for `text`; `root` is the folder that holds `input.txt`, or that file."""

    test: Fraction | str | None = 0.0


class TinyShakespeare:
    """The data set `tiny_shakespeare`: the first nine tenths train, the rest validates."""

    def __init__(self, config: TinyShakespeareConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        path = locate("tiny_shakespeare", (FILE,), self.config.root)[FILE.path]
        return text_splits(str(path), self.config)


DATASETS = {"tiny_shakespeare": TinyShakespeareConfig()}
