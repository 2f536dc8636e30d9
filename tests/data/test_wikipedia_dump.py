"""A dump is a stream of pages: articles in, redirects and the rest out; damaged files are named."""

import bz2
import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from layerwise.core.config import parse_component
from layerwise.core.errors import DataError, UnsupportedError
from layerwise.data.examples import Splits
from layerwise.data.splits import load, prepare
from layerwise.data.wikipedia_dump import read_articles
from layerwise.data.wikipedia_sample import FILE

HEAD = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="en">\n<siteinfo/>\n'


def page(title: str, text: str, *, ns: int = 0, more: str = "") -> str:
    revision = f"<revision><id>1</id><text xml:space='preserve'>{escape(text)}</text></revision>"
    return f"<page><title>{escape(title)}</title><ns>{ns}</ns><id>1</id>{more}{revision}</page>\n"


def dump(*pages: str) -> bytes:
    return (HEAD + "".join(pages) + "</mediawiki>").encode()


PAGES = (
    page("A & B", "'''A''' & [[B]]"),
    page("Old name", "#REDIRECT [[A & B]]", more='<redirect title="A &amp; B" />'),
    page("Older name", "#redirect [[A & B]]"),
    page("Talk:A", "hello", ns=1),
    page("Empty", "{{only|a=template}}"),
    page("C", "c"),
)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(root: Path, **options: object) -> Splits:
    return load(parse_component("data", {"name": "wikipedia_dump", "root": str(root), **options}, "data"))


@pytest.mark.parametrize("ending", ["xml", "xml.bz2", "xml.gz"])
def test_articles_are_the_examples(tmp_path: Path, ending: str) -> None:
    packed = {"xml": bytes, "xml.bz2": bz2.compress, "xml.gz": gzip.compress}[ending](dump(*PAGES))
    splits = read(write(tmp_path / f"dump.{ending}", packed), val=0, test=0)
    assert splits.train is not None
    assert list(splits.train.texts or ()) == ["A & B\n\nA & B", "C\n\nc"]


def test_streams_behind_one_another_are_one_file(tmp_path: Path) -> None:
    whole = dump(*PAGES)
    path = write(tmp_path / "multistream.xml.bz2", bz2.compress(whole[:300]) + bz2.compress(whole[300:]))
    assert [article.title for article in read_articles(path)] == ["A & B", "Empty", "C"]


def test_parts_are_whole_articles_drawn_by_the_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", dump(*(page(str(i), f"text {i}") for i in range(200))))
    component = parse_component("data", {"name": "wikipedia_dump", "root": str(path)}, "data")
    one, same, other = (prepare(component, seed) for seed in (0, 0, 1))
    parts = [[list(part.texts or ()) for part in (s.train, s.val, s.test) if part is not None] for s in (one, other)]
    assert [len(part) for part in parts[0]] == [162, 18, 20]
    assert sorted(text for part in parts[0] for text in part) == sorted(f"{i}\n\ntext {i}" for i in range(200))
    assert parts[0] != parts[1]
    assert same.test is not None
    assert list(same.test.texts or ()) == parts[0][2]


def test_other_dumps_may_be_validation_and_test_data(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.xml", dump(*PAGES)), write(tmp_path / "b.xml", dump(page("D", "d")))
    splits = read(one, val=str(two), test=0.0)
    assert splits.val is not None
    assert list(splits.val.texts or ()) == ["D\n\nd"]


def test_a_page_is_held_at_a_time(tmp_path: Path) -> None:
    """300 pages of 10,000 characters: what is held stays below 50 of them."""
    text = "word " * 2_000
    path = tmp_path / "large.xml.bz2"
    with bz2.open(path, "wb", compresslevel=1) as out:
        out.write(HEAD.encode())
        for number in range(300):
            out.write(page(str(number), text).encode())
        out.write(b"</mediawiki>")

    def lengths() -> Iterator[int]:
        yield from (len(article.text) for article in read_articles(path))

    tracemalloc.start()
    try:
        total = sum(lengths())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 300 * (len(text) - 1)
    assert peak < 50 * len(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bz2.compress(dump(*PAGES))[:-20], r"a\.xml is damaged"),
        (gzip.compress(dump(*PAGES))[:-20], r"a\.xml is damaged"),
        (dump(*PAGES)[:-40], r"a\.xml is damaged or no XML: .*line 8"),
        (b"plain text", r"a\.xml is damaged or no XML: .*line 1, column 0"),
        (b"<html></html>", r"begins with <html>: a dump begins with <mediawiki>"),
        (b"<mediawiki></mediawiki>", "has no pages"),
        (dump(PAGES[1]), r"a\.xml: the dump has no article with text"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.xml", content))


def test_a_dump_may_be_kept_on_disk(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", dump(*PAGES))
    splits = [read(path, val=0, test=0, **more) for more in ({}, *[{"cache": str(tmp_path / "cache")}] * 2)]
    assert splits[0].train is not None
    assert len({part.train.fingerprint() for part in splits if part.train is not None}) == 1


def test_no_root_and_no_file_say_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root is needed.*pages-articles"):
        load(parse_component("data", "wikipedia_dump", "data"))
    with pytest.raises(DataError, match="there is no such file"):
        read(tmp_path / "none.xml")
    with pytest.raises(DataError, match=r"data\.val=.*there is no such file"):
        read(write(tmp_path / "a.xml", dump(*PAGES)), val=str(tmp_path / "none.xml"))


def test_offline_without_the_sample_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LAYERWISE_OFFLINE", "1")
    with pytest.raises(UnsupportedError, match=r"wikipedia_sample.*data\.root"):
        load(parse_component("data", "wikipedia_sample", "data"))


def test_the_real_sample_has_its_articles(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    if not (datasets_folder / FILE.path).is_file():
        pytest.skip(f"wikipedia_sample is not in {datasets_folder}")
    splits = load(parse_component("data", "wikipedia_sample", "data"))
    assert splits.train is not None
    texts = list(splits.train.texts or [])
    # The data's README: 206 pages, of which 106 are articles and 100 redirects.
    assert len(texts) == 106
    assert texts[0].startswith(
        "Anarchism\n\nAnarchism is a political philosophy that advocates self-governed societies"
    )
    marks = ("{{", "}}", "[[", "]]", "{|", "<ref", "''", "==")
    assert sum(mark in text for text in texts for mark in marks) == 0
