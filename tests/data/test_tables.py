"""CSV and npz files, clean and hostile; a person's own Dataset."""

import gzip
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.csv_table import CSV, CSVConfig
from layerwise.data.examples import Examples, Splits
from layerwise.data.npz import Npz, NpzConfig
from layerwise.data.own import item_columns
from layerwise.data.rows import find_delimiter
from layerwise.data.splits import prepare
from layerwise.data.table import Schema, encode, read_table, remarks, to_numbers

COLOURS, KINDS = ("red", "green", "blue"), ("yes", "no")
ROWS = "age,colour,born,kind\n" + "".join(
    f"{20 + i % 7 * 3}.5,{COLOURS[i % 3]},20{10 + i % 9}-0{1 + i % 8}-1{i % 10},{KINDS[i % 2]}\n" for i in range(60)
)


def csv_splits(path: Path, **options: Any) -> Splits:
    return CSV(CSVConfig(root=str(path), **options)).splits()


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def whole(part: Examples | None) -> dict[str, torch.Tensor]:
    assert part is not None
    return part.collate(torch.arange(len(part)))


# ---------------------------------------------------------------------------------------------------------------- CSV


def test_columns_are_told_apart(tmp_path: Path) -> None:
    splits = csv_splits(write(tmp_path / "a.csv", ROWS), target="kind")
    schema = Schema.from_json(splits.extras["table"])
    assert (schema.numeric, schema.date, list(schema.categories)) == (("age",), {"born": "iso"}, ["colour"])
    assert schema.categories["colour"] == ["blue", "green", "red"]
    assert splits.class_names == ["no", "yes"]
    batch = whole(splits.train)
    assert batch["numeric"].shape == (60, 6)
    assert batch["numeric"][:3, 0].tolist() == [20.5, 23.5, 26.5]
    assert batch["categories"][:3, 0].tolist() == [3, 2, 1]
    assert batch["labels"][:3].tolist() == [1, 0, 1]
    assert splits.warnings == []


def test_schema_survives_json(tmp_path: Path) -> None:
    import json

    tree = csv_splits(write(tmp_path / "a.csv", ROWS), target="kind").extras["table"]
    assert Schema.from_json(json.loads(json.dumps(tree))).to_json() == tree


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    text = ROWS.replace(",", delimiter)
    assert find_delimiter(text.splitlines()) == delimiter
    assert len(csv_splits(write(tmp_path / "a.csv", text), target="kind").train or []) == 60


def test_quoted_cells_with_delimiters_and_line_breaks_are_one_cell() -> None:
    table = read_table(b'a,b\n"x, y","1\n2"\n z , 3\n', "t")
    assert table.columns == {"a": ["x, y", "z"], "b": ["1\n2", "3"]}
    assert table.lines == [3, 4]


def test_gzip_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode()))
    assert whole(csv_splits(path, target="kind").train)["numeric"][0, 0] == 20.5


def test_other_encodings_are_named_and_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(ROWS.replace("red", "röt").encode("latin-1"))
    with pytest.raises(DataError, match=r"not UTF-8: byte 0xf6 at offset 27 \(line 2\).*data\.encoding"):
        csv_splits(path, target="kind")
    splits = csv_splits(path, target="kind", encoding="latin-1")
    assert "röt" in splits.extras["table"]["categories"]["colour"]


def test_unknown_target_has_a_suggestion(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    with pytest.raises(DataError, match=r"no column 'knid'\. Did you mean 'kind'\?"):
        csv_splits(path, target="knid")
    with pytest.raises(DataError, match=r"data\.target is needed.*age, colour, born, kind"):
        csv_splits(path)
    with pytest.raises(DataError, match=r"no column 'colr'\. Did you mean 'colour'\?"):
        csv_splits(path, target="kind", drop=("colr",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "no rows"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, the header has 2"),
        ("a,a\n1,2\n", "'a' is named twice"),
        ("1,2\n3,4\n", r"looks like data.*data\.columns"),
    ],
)
def test_uneven_files_are_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(text.encode(), "t", delimiter=",")


def test_files_without_header_take_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS.split("\n", 1)[1])
    splits = csv_splits(path, target="kind", columns=("age", "colour", "born", "kind"))
    assert len(splits.train or []) == 60


def test_missing_cells_are_nan_and_category_zero(tmp_path: Path) -> None:
    text = ROWS.replace("20.5,red", "?,NA", 1).replace("26.5,blue,2012", ",nan,2012", 1)
    batch = whole(csv_splits(write(tmp_path / "a.csv", text), target="kind").train)
    assert batch["numeric"][:, 0].isnan().nonzero().flatten().tolist() == [0, 2]
    assert (batch["categories"][:, 0] == 0).nonzero().flatten().tolist() == [0, 2]


def test_rows_without_target_are_left_out_and_told(tmp_path: Path) -> None:
    text = ROWS.replace(",yes", ",", 3)
    splits = csv_splits(write(tmp_path / "a.csv", text), target="kind")
    assert len(splits.train or []) == 57
    assert "3 of 60 rows have no 'kind'" in splits.warnings[0]
    with pytest.raises(DataError, match="'kind' has no values"):
        csv_splits(write(tmp_path / "b.csv", ROWS.replace(",yes", ",").replace(",no", ",")), target="kind")


def test_whole_numbers_of_few_values_are_classes_unless_told_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y\n" + "".join(f"{i * 0.37},{[10, 9, 100][i % 3]}\n" for i in range(30)))
    splits = csv_splits(path, target="y")
    assert splits.class_names == ["9", "10", "100"]
    assert whole(splits.train)["target"][:3].tolist() == [10.0, 9.0, 100.0]
    assert csv_splits(path, target="y", target_kind="number").class_names is None


def test_numbers_of_many_values_are_no_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y\n" + "".join(f"{i % 7},{i}\n" for i in range(60)))
    splits = csv_splits(path, target="y")
    assert "num_classes" not in splits.facts
    assert "labels" not in whole(splits.train)
    with pytest.raises(DataError, match=r"target_kind=number: kind='yes' is not a number"):
        csv_splits(write(tmp_path / "b.csv", ROWS), target="kind", target_kind="number")


def test_target_of_free_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y\n" + "".join(f"{i % 7},word{i}\n" for i in range(60)))
    with pytest.raises(DataError, match="60 different texts in 60 rows"):
        csv_splits(path, target="y")


def test_useless_columns_are_left_out_and_told(tmp_path: Path) -> None:
    header, *rows = ROWS.strip().split("\n")
    text = f"id,{header},same,name\n" + "".join(f"{i},{row},7,person {i}\n" for i, row in enumerate(rows))
    splits = csv_splits(write(tmp_path / "a.csv", text), target="kind")
    told = " ".join(splits.warnings)
    assert "'id' counts the rows" in told
    assert "'same' is always '7'" in told
    assert "'name' has 60 different texts" in told
    schema = Schema.from_json(splits.extras["table"])
    assert schema.numeric == ("age",)
    kept = csv_splits(tmp_path / "a.csv", target="kind", numeric=("id",), category=("name",))
    assert Schema.from_json(kept.extras["table"]).numeric == ("id", "age")
    assert "name" in kept.extras["table"]["categories"]


def test_columns_that_tell_the_target_are_told(tmp_path: Path) -> None:
    header, *rows = ROWS.strip().split("\n")
    text = f"{header},answer\n" + "".join(f"{row},{'J' if row.endswith('yes') else 'N'}\n" for row in rows)
    warnings = csv_splits(write(tmp_path / "a.csv", text), target="kind").warnings
    assert [w for w in warnings if "'answer' may give the target 'kind' away" in w]
    rng = np.random.default_rng(0)
    values = rng.normal(size=80)
    text = "x,z,y\n" + "".join(f"{v * 3 + 1:.6f},{rng.normal():.6f},{v:.6f}\n" for v in values)
    warnings = csv_splits(write(tmp_path / "b.csv", text), target="y").warnings
    assert [w for w in warnings if "'x' may give" in w]
    assert not [w for w in warnings if "'z' may give" in w]


def test_decimal_commas() -> None:
    assert to_numbers(["3,5", "1.200,25", ""], [""], ",")[:2].tolist() == [3.5, 1200.25]  # type: ignore[index]
    assert to_numbers(["3,5"], []) is None
    assert to_numbers(["inf"], []) is None
    assert to_numbers(["1.5"], [], ",") is None  # its point would be lost
    assert to_numbers(["1,234", "-1,234,567.5", "12"], []).tolist() == [1234.0, -1234567.5, 12.0]  # type: ignore[union-attr]
    assert to_numbers(["1,23"], []) is None
    assert to_numbers(["0,234"], []) is None  # no thousands begin with 0


def test_decimal_mark_is_found_out_and_told(tmp_path: Path) -> None:
    rows = "".join(f"{i % 7},{i % 10}5;1.2{i % 10}0,5;{KINDS[i % 2]}\n" for i in range(40))
    splits = csv_splits(write(tmp_path / "a.csv", "x;z;kind\n" + rows), target="kind")
    found = whole(splits.train)["numeric"][:2].tolist()
    assert found == [pytest.approx([0.05, 1200.5]), pytest.approx([1.15, 1210.5])]
    assert [w for w in splits.warnings if "decimal commas, as x='0,05'" in w]


def test_thousands_and_decimals_that_look_alike_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x;kind\n" + "".join(f"{i + 1},{i}00;{KINDS[i % 2]}\n" for i in range(1, 10)))
    with pytest.raises(DataError, match=r"x='2,100' part thousands or decimals\? Set data\.decimal=\."):
        csv_splits(path, target="kind")
    points = whole(csv_splits(path, target="kind", decimal=".").train)["numeric"]
    commas = whole(csv_splits(path, target="kind", decimal=",").train)["numeric"]
    assert points[0, 0] == 2100
    assert commas[0, 0] == pytest.approx(2.1)


def test_columns_without_a_name_are_numbered(tmp_path: Path) -> None:
    """As pandas writes its index, and with a delimiter at the end of the lines."""
    text = ",x,kind,\n" + "".join(f"{i},{i % 7},{KINDS[i % 2]},\n" for i in range(30))
    splits = csv_splits(write(tmp_path / "a.csv", text), target="kind")
    assert Schema.from_json(splits.extras["table"]).numeric == ("x",)
    told = " ".join(splits.warnings)
    assert "'column 1' counts the rows" in told
    assert "'column 4' is always missing" in told


def test_identifiers_of_huge_numbers_are_told(tmp_path: Path) -> None:
    text = "customer,x,kind\n" + "".join(f"{9_007_199_254 + i * i * 7919},{i % 7},{KINDS[i % 2]}\n" for i in range(60))
    warnings = csv_splits(write(tmp_path / "a.csv", text), target="kind").warnings
    assert [
        w for w in warnings if "'customer' has another whole number in every row" in w and "data.drop=customer" in w
    ]
    assert not [w for w in warnings if "'x'" in w]


def test_words_in_a_column_of_numbers_are_named_by_line(tmp_path: Path) -> None:
    rows = [f"{i * 1.5},{KINDS[i % 2]}\n" for i in range(80)]
    rows[40] = "unknown,yes\n"
    path = write(tmp_path / "a.csv", "x,kind\n" + "".join(rows))
    with pytest.raises(DataError, match=r"line 42: x='unknown' is not a number\. 79 of the column's 80 cells are"):
        csv_splits(path, target="kind")
    assert whole(csv_splits(path, target="kind", missing=("unknown",)).train)["numeric"][40].isnan().all()


def test_whole_numbers_written_in_two_ways_are_one_class(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i * 0.37},{['0', '1', '1.0'][i % 3]}\n" for i in range(30))
    splits = csv_splits(write(tmp_path / "a.csv", text), target="y")
    assert splits.class_names == ["0", "1"]
    assert whole(splits.train)["labels"][:4].tolist() == [0, 1, 1, 0]


def test_one_row_or_a_target_that_never_varies_is_refused(tmp_path: Path) -> None:
    def prepared(text: str) -> Splits:
        path = write(tmp_path / "a.csv", text)
        return prepare(parse_component("data", {"name": "csv", "root": str(path), "target": "kind"}, "data"), 0)

    with pytest.raises(DataError, match=r"no column to predict|leaves one part empty"):
        prepared("x,kind\n1,yes\n")
    with pytest.raises(DataError, match="are of one class, 'yes'"):
        prepared("x,kind\n" + "".join(f"{i % 7},yes\n" for i in range(30)))


def test_all_columns_missing_leaves_nothing_to_predict_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no column to predict 'kind' from"):
        csv_splits(write(tmp_path / "a.csv", "x,kind\n" + "NA,yes\n,no\n" * 20), target="kind")


def test_new_file_is_remarked_on_by_column_value_and_line(tmp_path: Path) -> None:
    schema = Schema.from_json(csv_splits(write(tmp_path / "a.csv", ROWS), target="kind").extras["table"])
    new = read_table(b"age,colour,born,extra\n1,red,2020-01-01,x\n2,mauve,2020-01-01,x\n3,mauve,2020-01-01,x\n", "new")
    (unknown, unused) = remarks(new, schema)
    assert unknown == (
        "new: 2 of 3 rows have values of 'colour' that training did not see: 'mauve' (2), first in line 3. They count "
        "as an unknown value."
    )
    assert unused == "new: columns that training did not have are not used: extra."
    lacking = read_table(b"age,born\n1,2020-01-01\n", "new")
    assert list(remarks(lacking, schema, {"colour"})) == [
        "new has no column 'colour': all its values are taken as missing."
    ]
    assert encode(lacking, schema, {"colour"})["categories"].tolist() == [[0]]


def test_columns_that_training_left_out_are_not_remarked_on(tmp_path: Path) -> None:
    schema = Schema.from_json(csv_splits(write(tmp_path / "a.csv", ROWS), target="kind", drop=("age",)).extras["table"])
    assert list(remarks(read_table(ROWS.encode(), "new"), schema)) == []


# -------------------------------------------------------------------------------------------------------------- dates


def dated(tmp_path: Path, cells: list[str], **options: Any) -> Splits:
    text = "when;x;kind\n" + "".join(f"{cell};{i % 7};{KINDS[i % 2]}\n" for i, cell in enumerate(cells))
    return csv_splits(write(tmp_path / "a.csv", text), target="kind", **options)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["31/01/2024", "01/02/2024"], "day_first"),
        (["31.01.2024", "1.2.2024"], "day_first"),
        (["01.02.2024", "1.3.2024"], "day_first"),  # points: nobody writes the month first
        (["01/31/2024", "2/1/2024 3:04 PM"], "month_first"),
        (["31 Jan 2024", "1-Feb-2024"], "month_name"),
        (["January 31, 2024", "Feb 1 2024"], "month_name"),
        (["2024-01-31", "2024/02/01"], "iso"),
    ],
)
def test_ways_to_write_dates_are_found_out(tmp_path: Path, cells: list[str], kind: str) -> None:
    splits = dated(tmp_path, [*cells, ""] * 20)
    assert Schema.from_json(splits.extras["table"]).date == {"when": kind}
    days = whole(splits.train)["numeric"][:, 1]
    expected = {"31": 19753, "1.": 19754}  # 2024-01-31 is day 19,753
    first = 19754 if cells[0] == "01.02.2024" else expected["31"]
    assert int(days[0]) == first
    assert days[2].isnan()


def test_dates_in_several_ways_of_writing_are_told(tmp_path: Path) -> None:
    warning = dated(tmp_path, ["13/02/2024", "02/13/2024", "02/14/2024"] * 15).warnings[0]
    assert "'when' has dates in several ways of writing, such as '13/02/2024' and '02/13/2024'" in warning


def test_days_and_months_that_look_alike_are_asked_for(tmp_path: Path) -> None:
    cells = ["01/02/2024", "03/04/2024"] * 10
    with pytest.raises(DataError, match=r"when='01/02/2024' can be read day first or month first.*data\.date_order="):
        dated(tmp_path, cells)
    assert whole(dated(tmp_path, cells, date_order="day_first").train)["numeric"][0, 1] == 19754  # 1 February
    assert whole(dated(tmp_path, cells, date_order="month_first").train)["numeric"][0, 1] == 19724  # 2 January


def test_dates_written_as_numbers_are_told_and_read_when_named(tmp_path: Path) -> None:
    for cells, days in (
        (["1706659200", "1706745600", "1706832000"], 19753),  # 2024-01-31T00:00:00Z
        (["1706659200000", "1706745600000", "1706832000000"], 19753),
        (["20240131", "20240201", "20240202"], 19753),
    ):
        splits = dated(tmp_path, cells * 10)
        assert [w for w in splits.warnings if "'when' looks like dates written as numbers; data.date=when" in w]
        assert whole(dated(tmp_path, cells * 10, date=("when",)).train)["numeric"][0, 1] == days
    with pytest.raises(DataError, match=r"line 3: when='soon' is not a date; known are"):
        dated(tmp_path, ["2024-01-31", "soon"] * 10, date=("when",))


def test_times_of_day_give_their_place_in_the_day(tmp_path: Path) -> None:
    splits = dated(tmp_path, ["2024-01-31T06:00", "2024-01-31T18:00+06:00", ""] * 10)
    schema = Schema.from_json(splits.extras["table"])
    assert schema.times == ("when",)
    numeric = whole(splits.train)["numeric"]
    assert numeric.shape[1] == 1 + 7 == len(schema.numeric_names) == len(schema.numeric_sources)
    assert numeric[0, 1].item() == pytest.approx(19753.25)
    assert numeric[1, 1].item() == pytest.approx(19753.5)  # six hours east of Greenwich: noon there
    assert numeric[0, 6:].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    assert numeric[1, 6:].tolist() == pytest.approx([0.0, -1.0], abs=1e-6)
    assert numeric[2, 1:].isnan().all()


def test_train_and_test_files_of_a_folder_or_zip(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "train.csv", ROWS)
    write(tmp_path / "d" / "test.csv", ROWS.replace("red", "purple"))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for name in ("train.csv", "test.csv"):
            archive.write(tmp_path / "d" / name, name)
    for root in (tmp_path / "d", tmp_path / "d.zip"):
        splits = csv_splits(root, target="kind")
        assert whole(splits.test)["categories"][0, 0] == 4  # three colours are known: purple is beyond them
        assert splits.extras["table"]["categories"]["colour"] == ["blue", "green", "red"]


def test_test_file_without_a_column_is_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "b.csv", ROWS.replace("colour", "color"))
    with pytest.raises(DataError, match="lacks the column 'colour'"):
        csv_splits(write(tmp_path / "a.csv", ROWS), target="kind", test=str(other))


def test_groups_of_a_column_stay_together(tmp_path: Path) -> None:
    header, *rows = ROWS.strip().split("\n")
    text = f"who,{header}\n" + "".join(f"p{i // 6},{row}\n" for i, row in enumerate(rows))
    path = write(tmp_path / "a.csv", text)
    component = parse_component("data", {"name": "csv", "root": str(path), "target": "kind", "group": "who"}, "data")
    splits = prepare(component, 0)
    parts = (splits.train, splits.val, splits.test)
    train, val, test = (set((whole(part)["sample_ids"] // 6).tolist()) for part in parts)
    assert len(train) + len(val) + len(test) == 10  # with the next line: no group is in two parts
    assert len(train | val | test) == 10
    assert "who" not in splits.extras["table"]["categories"]


def test_new_file_with_a_wrong_cell_names_line_and_column(tmp_path: Path) -> None:
    schema = Schema.from_json(csv_splits(write(tmp_path / "a.csv", ROWS), target="kind").extras["table"])
    with pytest.raises(DataError, match="line 3: age='old' is not a number"):
        encode(read_table(b"age,colour,born\n1,red,2020-01-01\nold,red,2020-01-01\n", "new"), schema)
    with pytest.raises(DataError, match=r"line 2: born='yesterday' is not a date \(iso\)"):
        encode(read_table(b"age,colour,born\n1,red,yesterday\n", "new"), schema)
    with pytest.raises(DataError, match="lacks 2 columns 'age', 'born', of which training had a value in every row"):
        encode(read_table(b"aeg,colour\n1,red\n", "new"), schema)


def test_adult_is_read_as_described(datasets_folder: Path) -> None:
    columns = (
        "age,workclass,fnlwgt,education,education-num,marital-status,occupation,relationship,race,sex,"
        "capital-gain,capital-loss,hours-per-week,native-country,income"
    )
    path = datasets_folder / "tabular" / "adult" / "adult.data"
    splits = csv_splits(path, target="income", columns=tuple(columns.split(",")))
    batch = whole(splits.train)
    assert splits.class_names == ["<=50K", ">50K"]
    assert batch["labels"].bincount().tolist() == [24_720, 7_841]  # from the set's description
    assert int((batch["categories"] == 0).sum()) == 4_262
    assert batch["numeric"].shape[1] == 6


# ---------------------------------------------------------------------------------------------------------------- npz


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_npz_numbers_and_classes(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 4))
    splits = Npz(NpzConfig(root=str(npz(tmp_path / "a.npz", x=x, y=np.arange(20) % 3)))).splits()
    batch = whole(splits.train)
    assert torch.equal(batch["numeric"], torch.from_numpy(x).float())
    assert batch["labels"].tolist() == [i % 3 for i in range(20)]
    assert splits.facts == {"num_classes": 3, "in_features": 4}


def test_npz_parts_and_pictures_as_keras_lays_them_out(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3)).astype(np.uint8)
    y = np.arange(10)[:, None] % 2
    path = npz(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:4, :, :, 0], y_test=y[:4])
    splits = Npz(NpzConfig(root=str(path))).splits()
    assert np.array_equal(whole(splits.train)["image"].numpy(), x.transpose(0, 3, 1, 2))
    assert whole(splits.test)["image"].shape == (4, 1, 6, 5)
    assert splits.facts["image_size"] == (6, 5)


def test_npz_inside_a_zip_is_read(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz", x=np.zeros((4, 2)), y=np.array([0.5, 1.5, 2.5, 3.5]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.npz", "inner/a.npz")
    assert whole(Npz(NpzConfig(root=str(tmp_path / "a.zip"))).splits().train)["target"].tolist() == [0.5, 1.5, 2.5, 3.5]


def test_npz_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    x, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    for arrays, message in (
        ({"x": np.array([{}, 1], dtype=object), "y": y}, "Python objects"),
        ({"X": x, "y": y}, r"no array 'x'.*Did you mean 'X'"),
        ({"x": x, "y": y[:3]}, "x has 4 rows, y has 3"),
        ({"x": x, "y": np.array(list("abcd"))}, "must be numbers"),
        ({"x": np.zeros((4, 2, 2, 7), np.uint8), "y": y}, "one or three channels"),
        ({"x": np.zeros((4, 2, 2)), "y": y}, "numbers \\[N, F\\] or pictures"),
    ):
        with pytest.raises(DataError, match=message):
            Npz(NpzConfig(root=str(npz(tmp_path / "a.npz", **arrays)))).splits()
    (tmp_path / "b.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not a readable"):
        Npz(NpzConfig(root=str(tmp_path / "b.npz"))).splits()


# ------------------------------------------------------------------------------------------------------- own datasets

OWN = """
import torch
from torch.utils.data import Dataset, IterableDataset


class Points(Dataset):
    def __init__(self, count: int = 40, train: bool | None = None):
        self.count = count if train in (None, True) else 10
        self.offset = 0 if train in (None, True) else 1000

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.tensor([index + self.offset, 2.0]), index % 2


class Plain(Dataset):
    classes = ["left", "right"]
    targets = [0, 1] * 10

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.full((1, 4, 4), index / 255), index % 2


class Ragged(Plain):
    def __getitem__(self, index):
        return torch.zeros(1, 4, 4 + index, dtype=torch.uint8), index % 2


class Stream(IterableDataset):
    def __iter__(self):
        yield 1
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{abs(hash(str(tmp_path)))}"
    write(tmp_path / f"{name}.py", OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def own(name: str, **options: object) -> Splits:
    return prepare(parse_component("data", {"name": name, **options}, "data", trust=True), 0)


def test_own_dataset_by_dotted_name_with_its_arguments(own_module: str) -> None:
    splits = own(f"{own_module}:Points", count="30")
    assert [len(part or []) for part in (splits.train, splits.val, splits.test)] == [27, 3, 10]
    assert int(whole(splits.test)["numeric"][0, 0]) == 1000
    assert splits.facts == {"num_classes": 2, "in_features": 2}
    batch = whole(splits.train)
    assert torch.equal(batch["numeric"][:, 0].long(), batch["sample_ids"])
    assert torch.equal(batch["labels"], batch["sample_ids"] % 2)


def test_own_pictures_of_to_tensor_are_whole_again_and_classes_named(own_module: str) -> None:
    splits = own(f"{own_module}:Plain")
    batch = whole(splits.train)
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(batch["image"][:, 0, 0, 0].long(), batch["sample_ids"])
    assert splits.class_names == ["left", "right"]


def test_own_datasets_that_cannot_be_batched_are_named(own_module: str) -> None:
    splits = own(f"{own_module}:Ragged")
    with pytest.raises(DataError, match="same shapes"):
        whole(splits.train)
    with pytest.raises(DataError, match="__len__"):
        own(f"{own_module}:Stream")


def test_own_code_needs_trust(own_module: str) -> None:
    with pytest.raises(ConfigError, match="trust"):
        parse_component("data", f"{own_module}:Points", "data")
    assert own_module not in sys.modules


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (3, "expected a pair"),
        ((torch.zeros(1, 2, 2, 2), 1), "picture"),
        ((torch.randn(3, 4, 4), 1), "normalisation to the task"),
        ((torch.zeros(4), torch.zeros(2)), "one number"),
        (("text", 1), "cannot make a tensor of str"),
    ],
)
def test_items_of_another_kind_are_refused(item: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        item_columns(item)


def test_pictures_of_pillow_are_taken() -> None:
    from PIL import Image

    array = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    columns = item_columns((Image.open(buffer), 2.5))
    assert np.array_equal(columns["image"].permute(1, 2, 0).numpy(), array)
    assert float(columns["target"]) == 2.5
