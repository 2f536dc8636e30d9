"""A sample of English Wikipedia: 106 articles of the dump of 2016, 2.9 million characters of plain text.

The first pages of enwiki-latest-pages-articles1 of May 2016, cut short by the gensim project
(https://github.com/piskvorky/gensim). Text: CC BY-SA 3.0 and GFDL, by Wikipedia's authors.
"""

from dataclasses import dataclass

from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits
from layerwise.data.wikipedia_dump import WikipediaDumpConfig, article_splits

_NAME = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
FILE = RemoteFile(
    path=f"text/enwiki-sample/{_NAME}",
    url=f"https://raw.githubusercontent.com/piskvorky/gensim/37f90ec121eb7cd401448a947e80953e0c53ccdc/gensim/test/test_data/{_NAME}",
    sha256="a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
    bytes=1_695_871,
)


@dataclass(frozen=True, kw_only=True)
class WikipediaSampleConfig(WikipediaDumpConfig):
    """Options as for `wikipedia_dump`; `root` is the folder that holds the dump, or the file."""


class WikipediaSample:
    """The data set `wikipedia_sample`."""

    def __init__(self, config: WikipediaSampleConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the file, from `root`, $LAYERWISE_DATA, the cache, or downloaded (1.7 MB)."""
        path = locate("wikipedia_sample", (FILE,), self.config.root)[FILE.path]
        return article_splits(str(path), self.config)


DATASETS = {"wikipedia_sample": WikipediaSampleConfig()}
