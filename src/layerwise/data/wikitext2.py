"""WikiText-2, its validation and test parts: articles of Wikipedia, one word a blank, rare words as `<unk>`.

S. Merity, C. Xiong, J. Bradbury, R. Socher, "Pointer sentinel mixture models", 2016, https://arxiv.org/abs/1609.07843.
As in the word_language_model of pytorch/examples. Text under CC BY-SA 3.0.

What trains here is the validation part, about a tenth of what published models train on: 217,646 words and line ends,
of which the last tenth validates. The perplexity of the test part is therefore none of those that papers have.
"""

from dataclasses import dataclass

from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits
from layerwise.data.text import TextConfig, text_splits

_FROM = (
    "https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/"
    "word_language_model/data/wikitext-2"
)
TRAIN = RemoteFile(
    path="text/wikitext-2/valid.txt",
    url=f"{_FROM}/valid.txt",
    sha256="f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
    bytes=1_121_681,
)
TEST = RemoteFile(
    path="text/wikitext-2/test.txt",
    url=f"{_FROM}/test.txt",
    sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
    bytes=1_256_449,
)


@dataclass(frozen=True, kw_only=True)
class WikiText2Config(TextConfig):
    """Options as for `text`; `root` is the folder that holds `valid.txt` and `test.txt`."""


class WikiText2:
    """The data set `wikitext2`: the first nine tenths of the validation part train, the rest validates; the test part
    is its own.
    """

    def __init__(self, config: WikiText2Config) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the files, from `root`, $LAYERWISE_DATA, the cache, or downloaded (2.4 MB)."""
        found = locate("wikitext2", (TRAIN, TEST), self.config.root)
        return text_splits(str(found[TRAIN.path]), self.config, found[TEST.path])


DATASETS = {"wikitext2": WikiText2Config()}
