"""CSV and JSON Lines: streams and whole files are read alike, and what is wrong is named alike, with its line."""

import gzip
from pathlib import Path

import pytest

from layerwise.core.errors import DataError
from layerwise.data.corpus import Reader
from layerwise.data.table import read_table
from layerwise.data.text_table import TextFile, TextTable, TextTableConfig, read_rows

LONG = "word " * 40_000  # longer than the csv module takes by itself


def streamed(path: Path) -> list[str]:
    return ["".join(document) for document in Reader().documents([path])]


def whole(path: Path) -> list[str]:
    return read_rows(path.read_bytes(), str(path), TextFile()).columns["text"]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.csv", "text,label\na,1\n\n  \nb,2\n", ["a", "b"]),
        ("a.csv", "text,label\r\na,1\r\nb,2\r\n", ["a", "b"]),
        ("a.csv", "text,label\ra,1\rb,2\r", ["a", "b"]),  # an old Mac's
        ("a.csv", '\ufefftext;label\n"a;b";1\n', ["a;b"]),
        ("a.csv", f'text,label\n"{LONG}x",1\n', [f"{LONG}x"]),
        ("a.csv", 'text,label\n"a\r\nb",1\n', ["a\nb"]),
        ("a.tsv", "text\tlabel\na, b\t1\n", ["a, b"]),
        ("a.jsonl", '{"text": "a"}\r\n\r\n{"text": "b\u2028c"}', ["a", "b\u2028c"]),
    ],
)
def test_a_stream_and_a_whole_file_are_read_alike(tmp_path: Path, name: str, content: str, wanted: list[str]) -> None:
    for path, data in ((tmp_path / name, content.encode()), (tmp_path / f"{name}.gz", gzip.compress(content.encode()))):
        path.write_bytes(data)
        assert streamed(path) == whole(path) == wanted


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\na,1\nb\xff,2\n", r"a.csv: not UTF-8: byte 0xff at offset 16 \(line 3\)"),
        ("a.csv", "text,label\na,1\n".encode("utf-16"), r"not UTF-8.*data\.encoding, e\.g\. utf-16"),
        ("a.csv", b"text,label\na,1\nb\0,2\n", "a.csv, line 3 has a NUL"),
        ("a.csv", b"text,label\na,1\nb,2,3\n", r"a.csv, line 3: 3 cells, the header has 2 \(delimiter ','\)"),
        ("a.csv", b"body,label\na,1\n", r"a.csv has no column 'text'; columns: body, label.*data\.text=NAME"),
        ("a.csv", b"1,2\n3,4\n", r"the first line looks like data.*data\.columns"),
        ("a.csv.gz", gzip.compress(b"text,label\na,1\n", mtime=0)[:-9], "a.csv.gz is damaged"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"a.jsonl: not UTF-8: byte 0xff at offset 24 \(line 2\)"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "a.jsonl, line 3: not JSON"),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', "a.jsonl, line 2: expected an object"),
        ("a.jsonl", b'{"body": "a", "label": 1}\n', r"a.jsonl has no column 'text'; columns: body, label.*data\.text="),
    ],
)
def test_a_stream_and_a_whole_file_name_what_is_wrong_alike(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as first:
        streamed(tmp_path / name)
    with pytest.raises(DataError, match=message) as second:
        TextTable(TextTableConfig(root=str(tmp_path / name))).splits()
    assert str(first.value) == str(second.value)


@pytest.mark.parametrize("content", [b"1,2\n3,4\n", b"a,a\n3,4\n", b"a,b\n\xff,4\n"])
def test_no_option_is_advised_where_there_is_none(content: bytes) -> None:
    with pytest.raises(DataError, match=r"data\."):
        read_table(content, "t")
    with pytest.raises(DataError, match=r"^t:") as caught:
        read_table(content, "t", fixed=True)
    assert "data." not in str(caught.value)
