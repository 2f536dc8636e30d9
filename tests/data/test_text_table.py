"""A person's labelled texts: formats, columns, hostile files."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from layerwise.core.config import parse_component
from layerwise.core.errors import DataError, MissingExtraError
from layerwise.data.examples import Splits
from layerwise.data.splits import load, prepare

ROWS = [("good, very good", "pos"), ('it said "no"', "neg"), ("two\nlines", "pos"), ("Grüße 漢字", "neg")]
CSV = 'text,label\n"good, very good",pos\n"it said ""no""",neg\n"two\nlines",pos\nGrüße 漢字,neg\n'


def read(root: object, **options: object) -> Splits:
    return load(parse_component("data", {"name": "text_table", "root": str(root), **options}, "data"))


def rows(found: Splits, part: str = "train") -> list[tuple[str, str]]:
    examples = getattr(found, part)
    names = found.class_names or []
    return list(zip(examples.texts, [names[label] for label in examples.labels().tolist()], strict=True))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_with_quotes_commas_and_lines_inside(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.csv", CSV))
    assert rows(found) == ROWS
    assert found.class_names == ["neg", "pos"]
    assert found.facts == {"num_classes": 2}
    assert found.warnings == []


def test_the_same_rows_in_every_format(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text, "label": label, "id": i}) + "\n" for i, (text, label) in enumerate(ROWS))
    tabs = CSV.replace(",pos", "\tpos").replace(",neg", "\tneg").replace("text,label", "text\tlabel")
    assert rows(read(write(tmp_path / "a.jsonl", lines))) == ROWS
    assert rows(read(write(tmp_path / "a.jsonl.gz", gzip.compress(lines.encode(), mtime=0)))) == ROWS
    assert rows(read(write(tmp_path / "a.tsv", tabs))) == ROWS
    assert rows(read(write(tmp_path / "b.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n", 1).encode()))) == ROWS
    assert rows(read(write(tmp_path / "c.csv", gzip.compress(CSV.encode(), mtime=0)))) == ROWS


def test_parquet_or_a_word_on_what_it_needs(tmp_path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        with pytest.raises(MissingExtraError, match="pyarrow"):
            read(write(tmp_path / "a.parquet", b"PAR1"))
        return
    columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert rows(read(tmp_path / "a.parquet")) == ROWS
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(write(tmp_path / "b.parquet", b"PAR1"))


def test_columns_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,review,stars\n1,bad,1\n2,good,10\n3,fair,2\n")
    found = read(path, text="review", label="stars")
    assert rows(found) == [("bad", "1"), ("good", "10"), ("fair", "2")]
    assert found.class_names == ["1", "2", "10"]  # in order of number
    with pytest.raises(DataError, match=r"no column 'text'; columns: id, review, stars.*data\.text=NAME"):
        read(path)
    with pytest.raises(DataError, match=r"no column 'star'.*data\.label=stars\."):
        read(path, text="review", label="star")


def test_a_folder_or_zip_with_parts(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.csv", "text,label\na,x\nb,y\n")
    write(folder / "dev.csv", "text,label\nc,x\n")
    write(folder / "test.csv", "text,label\nd,y\n")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    for root in (folder, tmp_path / "set.zip"):
        found = read(root)
        assert [rows(found, part) for part in ("train", "val", "test")] == [
            [("a", "x"), ("b", "y")],
            [("c", "x")],
            [("d", "y")],
        ]
    other = write(tmp_path / "other.csv", "text,label\ne,x\n")
    assert rows(read(folder, val=str(other)), "val") == [("e", "x")]
    with pytest.raises(DataError, match="there is no such file"):
        read(folder, test=str(tmp_path / "none.csv"))


def test_rows_without_text_or_label_are_left_out_and_counted(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.csv", "text,label\na,x\n  ,y\nb,\nc,y\n"))
    assert rows(found) == [("a", "x"), ("c", "y")]
    assert [warning.split(": ", 1)[1] for warning in found.warnings] == [
        "1 of 4 rows have no 'text' and are left out (the first is line 3).",
        "1 of 4 rows have no 'label' and are left out (the first is line 4).",
    ]


def test_null_and_missing_keys_in_json_lines_are_no_values(tmp_path: Path) -> None:
    lines = '{"text": "a", "label": 1}\n\n{"text": null, "label": 0}\n{"label": 1}\n{"text": "b", "label": 0}\n'
    found = read(write(tmp_path / "a.jsonl", lines))
    assert rows(found) == [("a", "1"), ("b", "0")]
    assert "2 of 4 rows have no 'text'" in found.warnings[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "text,label\n", "has a header and no rows"),
        ("a.csv", "text,label\n,x\n,y\n", "the column 'text' is empty"),
        ("a.csv", "text,label\na,\n,y\n", "no row has 'text' and 'label'"),
        ("a.csv", b"text,label\n\xff\xfe,x\n", "data.encoding"),
        ("a.csv", "text,label\na,b,c\n", "line 2: 3 cells"),
        ("a.csv", "text,label\na\0b,x\n", "NUL"),
        ("a.jsonl", "\n\n", "is empty"),
        ("a.jsonl", '{"text": "a"\n', "line 1: not JSON"),
        ("a.jsonl", '{"text": "a", "label": 1}\n[1]\n', "line 2: expected an object"),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}\n', "line 1: text has half of a surrogate pair"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b\\u0000", "label": 1}\n', "NUL"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}', mtime=0)[:15], "is damaged"),
    ],
)
def test_files_that_cannot_be_used_say_why(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / name, content))


def test_no_root_an_empty_folder_and_other_files_say_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root is needed"):
        load(parse_component("data", "text_table", "data"))
    with pytest.raises(DataError, match="no CSV, JSON Lines or Parquet files"):
        read(tmp_path)
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name, CSV)
    with pytest.raises(DataError, match=r"a\.csv, b\.csv; one file, or one named train"):
        read(tmp_path)


def test_free_text_is_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\n" + "".join(f"t,word{i}\n" for i in range(60)))
    with pytest.raises(DataError, match="60 different values in 60 rows: no classes"):
        read(path)


def test_one_class_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\n" + "".join(f"text {i},same\n" for i in range(30)))
    with pytest.raises(DataError, match="one class, 'same'"):
        prepare(parse_component("data", {"name": "text_table", "root": str(path)}, "data"), seed=0)


def test_a_text_longer_than_the_csv_module_takes(tmp_path: Path) -> None:
    long = "word " * 50_000
    found = read(write(tmp_path / "a.csv", f'text,label\n"{long}",x\nb,y\n'))
    assert rows(found) == [(long.strip(), "x"), ("b", "y")]


def test_without_parts_of_its_own_a_tenth_and_a_tenth_of_the_rest_are_held_back(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(200)))
    found = prepare(parse_component("data", {"name": "text_table", "root": str(path)}, "data"), seed=0)
    sizes = [len(part) for part in (found.train, found.val, found.test) if part is not None]
    assert sizes == [162, 18, 20]
