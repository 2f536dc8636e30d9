"""Documents out of files of every format, as a stream; files that cannot be used are named."""

import gzip
import json
from pathlib import Path

import pytest

from layerwise.core.errors import ConfigError, DataError, MissingExtraError
from layerwise.data.corpus import Reader

ROWS = ["good, very good", 'it said "no"', "  two\nlines ", "Gr\u00fc\u00dfe \u6f22\u5b57"]
CSV = 'id,text\n1,"good, very good"\n2,"it said ""no"""\n3,"  two\nlines "\n4,Gr\u00fc\u00dfe \u6f22\u5b57\n'


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(*paths: Path, text: str = "text", encoding: str = "utf-8") -> tuple[list[str], list[str]]:
    reader = Reader(text=text, encoding=encoding)
    return [text if isinstance(text, str) else "".join(text) for text in reader.documents(paths)], reader.warnings


def test_a_text_file_is_a_document_as_it_is(tmp_path: Path) -> None:
    text = "\r\n one\n\ntwo\t\n"
    assert read(write(tmp_path / "a.txt", b"\xef\xbb\xbf" + text.encode())) == ([text], [])
    assert read(write(tmp_path / "a.txt.gz", gzip.compress(text.encode(), mtime=0))) == ([text], [])


def test_long_texts_come_in_pieces_of_whole_characters(tmp_path: Path) -> None:
    text = "x" + "\u6f22" * 1_000_000  # three bytes each: no piece of a power of two ends with a character
    documents = Reader().documents([write(tmp_path / "a.txt", text)])
    pieces = list(next(documents))
    assert len(pieces) > 1
    assert "".join(pieces) == text


def test_the_same_rows_in_every_format(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(ROWS))
    assert read(write(tmp_path / "a.jsonl", lines)) == (ROWS, [])
    assert read(write(tmp_path / "a.ndjson.gz", gzip.compress(lines.encode(), mtime=0))) == (ROWS, [])
    # Blanks after a delimiter are of no meaning in a CSV file, but inside quotation marks they are.
    assert read(write(tmp_path / "a.csv", CSV)) == (ROWS, [])
    tabs = CSV.replace("id,text", "id\ttext")
    for number in range(1, 5):
        tabs = tabs.replace(f"\n{number},", f"\n{number}\t")
    assert read(write(tmp_path / "a.tsv", tabs)) == (ROWS, [])
    assert read(write(tmp_path / "b.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n", 1).encode())) == (ROWS, [])


def test_parquet_or_a_word_on_what_it_needs(tmp_path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"pyarrow.*layerwise\[data\]"):
            read(write(tmp_path / "a.parquet", b"PAR1"))
        return
    table = pyarrow.table({"id": list(range(len(ROWS))), "text": ROWS})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    assert read(tmp_path / "a.parquet") == (ROWS, [])
    with pytest.raises(DataError, match=r"no column 'body'; columns: id, text.*data\.text=NAME"):
        read(tmp_path / "a.parquet", text="body")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(write(tmp_path / "b.parquet", b"PAR1"))


def test_what_datasets_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    made = datasets.Dataset.from_dict({"id": list(range(2500)), "text": [f"text {i}" for i in range(2500)]})
    made.filter(lambda row: row["id"] % 2 == 0).save_to_disk(tmp_path / "saved", num_shards=2)
    assert read(tmp_path / "saved") == ([f"text {i}" for i in range(0, 2500, 2)], [])
    with pytest.raises(DataError, match="no column 'body'; columns: id, text"):
        read(tmp_path / "saved", text="body")
    next((tmp_path / "saved").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match=r"\.arrow is not there, though .*state\.json names it"):
        read(tmp_path / "saved")
    write(tmp_path / "saved" / "state.json", "[]")
    with pytest.raises(DataError, match=r"state\.json is not what datasets saves"):
        read(tmp_path / "saved")


def test_rows_and_files_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = '{"text": "a"}\n\n{"text": null}\n{"other": 1}\n{"text": " \\n"}\n{"text": 7}\n'
    path = write(tmp_path / "a.jsonl", lines)
    assert read(path) == (
        ["a", "7"],
        [f"{path}: 3 of 5 rows have no 'text' and are left out (the first is line 3)."],
    )
    one, two, three = (write(tmp_path / f"{i}.txt", text) for i, text in enumerate(("", "b", " \n")))
    assert read(one, two, three) == (["b"], [f"2 of 3 files are empty and are left out (the first is {one})."])


def test_another_encoding_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "caf\u00e9".encode("latin-1"))
    assert read(path, encoding="latin-1") == (["caf\u00e9"], [])
    assert read(write(tmp_path / "b.jsonl", '{"text": "\u6f22"}\n'.encode("utf-16")), encoding="utf-16") == (
        ["\u6f22"],
        [],
    )
    with pytest.raises(ConfigError, match=r"data\.encoding=klingon"):
        read(path, encoding="klingon")


@pytest.mark.parametrize("before", [0, (1 << 20) - 3])
def test_bytes_that_are_no_utf8_are_named_with_their_place(tmp_path: Path, before: int) -> None:
    """Also where a chunk that is read ends inside the character before."""
    content = b"x" * before + "\n\u6f22".encode() + b"\n\xe9\n"
    with pytest.raises(DataError, match=rf"byte 0xe9 at offset {before + 5} \(line 3\).*data\.encoding.*iconv"):
        read(write(tmp_path / "a.txt", content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt: the file is empty"),
        ("a.txt", " \n", "a.txt: the file is empty"),
        ("a.txt", "a\0b", "a.txt, line 1 has a NUL character"),
        ("a.txt.gz", gzip.compress(b"abc" * 99, mtime=0)[:-9], "a.txt.gz is damaged"),
        ("a.jsonl", "\n\n", "the file is empty"),
        ("a.jsonl", '{"text": "a"\n', "line 1: not JSON"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "line 2: expected an object"),
        ("a.jsonl", '{"text": "a"}\n{"text": ["b"]}\n', "line 2: 'text' is a list, expected text"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "line 1: text has half of a surrogate pair"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b\\u0000"}\n', "line 2 has a NUL"),
        ("a.jsonl", '{"txt": "a"}\n{"body": "b"}\n', r"no column 'text'; columns: txt, body.*data\.text=txt\."),
        ("a.jsonl", '{"text": ""}\n{"text": null}\n', "the column 'text' is empty"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"byte 0xff at offset 24 \(line 2\)"),
        ("a.csv", "", "the file is empty"),
        ("a.csv", "id,text\n", "the file is empty"),
        ("a.csv", "id,body\n1,a\n", "no column 'text'; columns: id, body"),
        ("a.csv", "id,text\n1,a\n1,a,b\n", "line 3: 3 cells, the header has 2"),
        ("a.csv", "1,2\n3,4\n", "the first line looks like data"),
        ("a.csv", "id,text\n1,a\n2,b\0\n", "NUL"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / name, content))


def test_a_cell_longer_than_the_csv_module_takes(tmp_path: Path) -> None:
    long = "word " * 50_000
    assert read(write(tmp_path / "a.csv", f'text,id\n"{long}",1\n')) == ([long], [])
