"""Articles of a Wikipedia dump (https://dumps.wikimedia.org, `pages-articles`), as plain text.

The XML is read as a stream, from bz2, gzip or plain files: one page is held at a time. Format:
https://www.mediawiki.org/wiki/Help:Export#Export_format
"""

import bz2
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast
from xml.etree import ElementTree

from layerwise.core.errors import DataError
from layerwise.data.corpus import Document
from layerwise.data.examples import Splits
from layerwise.data.text import CorpusConfig, Reading, corpus_splits
from layerwise.data.wiki_markup import plain_text

_ARTICLES = "0"  # the namespace of articles; the others hold talk, templates, files ...


@dataclass(frozen=True, kw_only=True)
class WikipediaDumpConfig(CorpusConfig):
    """Options of a dump. `root` is the file, `.xml.bz2` as Wikipedia gives it, `.xml.gz` or `.xml`."""


class Article(NamedTuple):
    """A page of the encyclopaedia.

    Args:
        title: of the page.
        text: plain, without markup.
    """

    title: str
    text: str


class WikipediaDump:
    """One example an article: its title, a blank line, and its text.

    Redirects, pages that are no articles, and articles without running text are left out.
    """

    def __init__(self, config: WikipediaDumpConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the dump.

        Raises:
            DataError: no root, no such file, damaged, no dump, or no article.
        """
        if self.config.root is None:
            raise DataError("data.root is needed: a Wikipedia dump, such as enwiki-latest-pages-articles.xml.bz2.")
        return article_splits(self.config.root, self.config)


def article_splits(root: str, config: WikipediaDumpConfig) -> Splits:
    """The articles of a dump as examples."""
    train = _file(root, "data.root")
    return corpus_splits({"train": train}, config, Reading(lambda paths, _: _documents(paths), ["wikipedia"]), _file)


def _file(path: str, option: str) -> list[Path]:
    found = Path(path).expanduser()
    if not found.is_file():
        raise DataError(f"{option}={path}: there is no such file.")
    return [found]


def _documents(paths: Sequence[Path]) -> Iterator[Document]:
    for path in paths:
        found = (f"{article.title}\n\n{article.text}" for article in read_articles(path) if article.text)
        first = next(found, None)
        if first is None:
            raise DataError(f"{path}: the dump has no article with text.")
        yield first
        yield from found


def read_articles(path: Path) -> Iterator[Article]:
    """The articles of a dump in its order, redirects left out; a page is held at a time.

    Raises:
        DataError: it is damaged, cut off, or no dump.
    """
    seen = False
    try:
        with _opened(path) as stream:
            for page in _pages(stream, path):
                seen = True
                if (article := _article(page)) is not None:
                    yield article
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Fetch it again.") from error
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is damaged or no XML: {error.msg}.") from error
    if not seen:
        raise DataError(f"{path} has no pages: it should be a dump of pages, <mediawiki> with <page> inside.")


def _opened(path: Path) -> IO[bytes]:
    with open(path, "rb") as handle:
        head = handle.read(3)
    if head == b"BZh":
        return cast(IO[bytes], bz2.open(path))
    return cast(IO[bytes], gzip.open(path)) if head[:2] == b"\x1f\x8b" else open(path, "rb")


def _pages(stream: IO[bytes], path: Path) -> Iterator[ElementTree.Element]:
    """The <page> elements, each forgotten before the next is read."""
    events = ElementTree.iterparse(stream, events=("start", "end"))
    _, root = next(events)
    if _name(root) != "mediawiki":
        raise DataError(f"{path} begins with <{_name(root)}>: a dump begins with <mediawiki>.")
    for event, element in events:
        if event == "end" and _name(element) == "page":
            yield element
            root.clear()


def _article(page: ElementTree.Element) -> Article | None:
    """None for redirects and for pages that are no articles."""
    parts = {_name(part): part for part in page}  # of several revisions the last
    if "redirect" in parts or "revision" not in parts or (_text(parts.get("ns")) or _ARTICLES) != _ARTICLES:
        return None
    markup = next((_text(part) for part in parts["revision"] if _name(part) == "text"), "")
    if markup.lstrip()[:9].lower() == "#redirect":
        return None
    return Article(_text(parts.get("title")), plain_text(markup))


def _name(element: ElementTree.Element) -> str:
    """The tag without the namespace, which tells the version of the format."""
    return element.tag.rpartition("}")[2]


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None or element.text is None else element.text


DATASETS = {"wikipedia_dump": WikipediaDumpConfig()}
