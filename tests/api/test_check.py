"""The data check as a person calls it."""

import html.parser
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from typer.testing import CliRunner

from layerwise.api.check import check, check_data, examine
from layerwise.api.check_page import write_page
from layerwise.cli.main import app
from layerwise.core.errors import ConfigError
from layerwise.data.examples import Splits, TensorExamples


def codes(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["code"]: row["level"] for row in rows}


def test_digits_have_but_a_doubtful_label() -> None:
    for target in ("digits", "lenet5"):
        rows = check_data(target)
        assert codes(rows) in ({}, {"label_noise": "note"})
        assert sum(len(row["examples"]) for row in rows) <= 3


def test_data_that_cannot_be_read_is_an_error_finding(tmp_path: Path) -> None:
    rows = check_data("image_folder", [("data.root", str(tmp_path))])
    assert codes(rows) == {"unreadable": "error"}
    assert "has no pictures" in rows[0]["message"]


def test_table_for_the_wrong_task_is_an_error_finding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{i % 7},{i * 0.5}\n" for i in range(60)))
    where = [("data.root", str(path)), ("data.target", "y")]
    rows = check_data("tabular_classification", where)
    assert codes(rows)["task"] == "error"
    assert rows[0]["code"] == "task"  # worst first
    assert codes(check_data("tabular_regression", where)) == {"few_examples": "note"}
    assert codes(check_data("tabular_regression", [*where, ("data.test", "0"), ("data.val", "0")])) == {
        "no_val": "note",
        "no_test": "note",
    }


def test_few_examples_and_missing_parts_are_notes() -> None:
    train = TensorExamples(
        {"image": 10 * torch.arange(24, dtype=torch.uint8).view(6, 1, 2, 2), "labels": torch.arange(6) % 2}
    )
    found = check(Splits(train=train, facts={"num_classes": 2}, class_names=["a", "b"]), "image_classification")
    assert {finding.code for finding in found} == {"few_a_class", "few_examples", "no_val", "no_test"}
    assert {finding.level for finding in found} == {"note"}


def test_unknown_names_and_recipes_without_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="digits"):
        check_data("digit")
    with pytest.raises(ConfigError, match="makes its own data"):
        check_data("reinforce_cartpole")


def test_classes_with_other_shares_in_test_are_a_note() -> None:
    def part(labels: torch.Tensor, seed: int) -> TensorExamples:
        numeric = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
        return TensorExamples({"numeric": numeric, "categories": torch.zeros(len(labels), 0).long(), "labels": labels})

    even, uneven = torch.arange(400) % 2, (torch.arange(200) % 5 == 0).long()
    names = {"facts": {"num_classes": 2}, "class_names": ["a", "b"]}
    found = {f.code: f for f in check(Splits(train=part(even, 0), test=part(uneven, 1), **names))}  # type: ignore[arg-type]
    assert "80% of test and 50% of train" in found["class_shares"].message
    same = check(Splits(train=part(even, 0), test=part(even[:200], 1), **names))  # type: ignore[arg-type]
    assert {f.code for f in same} == {"no_val"}


# ------------------------------------------------------------------------------------------------- a folder of pictures


def photographs() -> list[Image.Image]:
    """scikit-learn's two photographs, without importing it."""
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "images"
    return [Image.open(folder / name).convert("RGB") for name in ("china.jpg", "flower.jpg")]


def crops(photograph: Image.Image) -> list[Image.Image]:
    """Squares of 80 pixels that do not overlap, those with some shape in them."""
    found = []
    for top in range(0, photograph.height - 80, 80):
        for left in range(0, photograph.width - 80, 80):
            crop = photograph.crop((left, top, left + 80, top + 80))
            if np.asarray(crop.convert("L")).std() > 12:
                found.append(crop)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Clean pictures: 14 crops of a class to train on, 4 to test on."""
    root = tmp_path / "photos"
    for name, photograph in zip(("china", "flower"), photographs(), strict=True):
        squares = crops(photograph)[:18]
        assert len(squares) == 18
        for part, chosen in (("train", squares[:14]), ("test", squares[14:])):
            (root / part / name).mkdir(parents=True)
            for number, square in enumerate(chosen):
                square.save(root / part / name / f"{number:02}.png")
    return root


def check_folder(root: Path, *more: tuple[str, str], out: Path | None = None) -> list[dict[str, Any]]:
    return check_data("image_folder", [("data.root", str(root)), ("data.val", "0"), *more], out=out)


def files(rows: Sequence[dict[str, Any]], code: str) -> set[str]:
    (row,) = [row for row in rows if row["code"] == code]
    return {"/".join(Path(example["file"]).parts[-3:]) for example in row["examples"]}


def test_a_clean_folder_has_notes_on_its_size_only(folder: Path) -> None:
    assert codes(check_folder(folder)) == {"few_examples": "note", "no_val": "note"}


def plant(root: Path) -> None:
    """One of each defect."""
    (root / "test" / "china" / "copy.png").write_bytes((root / "train" / "china" / "03.png").read_bytes())
    Image.open(root / "train" / "flower" / "05.png").save(root / "test" / "flower" / "again.jpg", quality=75)
    lighter = ImageEnhance.Brightness(Image.open(root / "train" / "china" / "07.png")).enhance(0.95)
    lighter.resize((84, 84), Image.Resampling.BICUBIC).save(root / "test" / "china" / "lighter.png")
    (root / "train" / "flower" / "wrong.png").write_bytes((root / "train" / "china" / "09.png").read_bytes())
    Image.new("RGB", (80, 80), (12, 200, 30)).save(root / "train" / "flower" / "blank.png")
    (root / "train" / "china" / "cut.png").write_bytes((root / "train" / "china" / "00.png").read_bytes()[:900])
    Image.open(root / "train" / "flower" / "11.png").convert("CMYK").save(root / "train" / "flower" / "print.jpg")
    Image.open(root / "train" / "china" / "11.png").resize((20, 20)).rotate(90).save(
        root / "train" / "china" / "tiny.png"
    )
    photographs()[0].crop((0, 300, 600, 400)).save(root / "train" / "china" / "wide.png")


@pytest.mark.parametrize("memory_gb", ["2", "0.000001"])
def test_every_defect_planted_in_a_folder_is_found_by_its_file(folder: Path, memory_gb: str) -> None:
    plant(folder)
    rows = check_folder(folder, ("data.memory_gb", memory_gb))
    found = codes(rows)
    assert found["unreadable"] == "error"
    assert rows[0]["code"] == "unreadable"
    assert len(rows[0]["lines"]) == 1
    assert "cut.png" in rows[0]["lines"][0]
    assert files(rows, "duplicates_test") == {"train/china/03.png", "test/china/copy.png"}
    assert files(rows, "near_duplicates_test") == {
        "train/flower/05.png",
        "test/flower/again.jpg",
        "train/china/07.png",
        "test/china/lighter.png",
    }
    assert files(rows, "duplicates_train") == {"train/china/09.png", "train/flower/wrong.png"}
    assert files(rows, "conflicting_labels") == {"train/china/09.png", "train/flower/wrong.png"}
    assert files(rows, "blank_pictures") == {"train/flower/blank.png"}
    assert files(rows, "picture_modes") == {"train/flower/print.jpg"}
    assert files(rows, "small_pictures") == {"train/china/tiny.png"}
    assert files(rows, "elongated_pictures") == {"train/china/wide.png"}
    assert set(found) - {
        "unreadable", "duplicates_test", "near_duplicates_test", "duplicates_train", "conflicting_labels",
        "blank_pictures", "picture_modes", "small_pictures", "elongated_pictures",
        "data_set", "few_examples", "no_val",
        "near_duplicates_train",  # the picture printed in CMYK is still its original's near copy
    } == set()  # fmt: skip


def test_a_class_told_by_its_kind_of_file_is_a_warning(tmp_path: Path) -> None:
    for name, photograph, suffix in zip(("china", "flower"), photographs(), ("png", "jpg"), strict=True):
        (tmp_path / name).mkdir()
        for number in range(40):
            square = photograph.crop((number * 10, number * 5, number * 10 + 64, number * 5 + 64))
            square.save(tmp_path / name / f"{number}.{suffix}")
    rows = check_data("image_folder", [("data.root", str(tmp_path))])
    (row,) = [row for row in rows if row["code"] == "leaking_files"]
    assert "The file format of a file alone tells 100%" in row["message"]
    assert "'flower' is JPEG in 40 of 40" in row["message"]


def test_files_in_a_zip_are_named_and_looked_at(folder: Path, tmp_path: Path) -> None:
    import shutil

    plant(folder)
    (folder / "train" / "china" / "cut.png").unlink()
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    rows = check_folder(Path(packed))
    assert files(rows, "picture_modes") == {"train/flower/print.jpg"}
    assert files(rows, "duplicates_test") == {"train/china/03.png", "test/china/copy.png"}


def test_one_class_and_a_class_of_one_picture_are_told(folder: Path) -> None:
    for path in sorted((folder / "train" / "flower").iterdir())[1:]:
        path.unlink()
    found = codes(check_folder(folder))
    assert found["few_a_class"] == "note"
    for path in (folder / "train" / "flower", folder / "test" / "flower"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    rows = check_folder(folder)
    assert codes(rows) == {"unreadable": "error"}
    assert "one class only, 'china'" in rows[0]["message"]


# ----------------------------------------------------------------------------------------------------- tables and array


def test_a_csv_with_a_leak_an_identifier_and_a_stand_in_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["age,customer,score,paid,bought"]
    for i in range(400):
        bought = int(rng.random() < 0.4)
        score = -999 if i % 80 == 0 else round(float(rng.uniform(0, 100)), 3)
        paid = bought * rng.uniform(5, 90)
        lines.append(f"{rng.integers(18, 90)},{(i * 7919) % 100003},{score},{paid:.2f},{bought}")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    rows = check_data("csv", [("data.root", str(tmp_path / "a.csv")), ("data.target", "bought")])
    messages = {row["code"]: row["message"] for row in rows}
    assert codes(rows) == {"leaking_column": "warning", "identifier_column": "warning", "stand_in_value": "warning"}
    assert "'paid'" in messages["leaking_column"]
    assert "'customer'" in messages["identifier_column"]
    (row,) = [row for row in rows if row["code"] == "stand_in_value"]
    assert {example["id"] for example in row["examples"]} == {0, 80, 160, 240, 320}


def test_arrays_with_values_that_are_not_finite_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (200, 4)).astype(np.float32)
    x[7, 2], x[9, 0] = np.inf, np.nan
    np.savez(tmp_path / "a.npz", x=x, y=rng.integers(0, 2, 200))
    where = [("data.root", str(tmp_path / "a.npz")), ("data.test", "0"), ("data.val", "0")]
    (row,) = [row for row in check_data("npz", where) if row["level"] == "error"]
    assert row["code"] == "not_finite"
    assert {example["id"] for example in row["examples"]} == {7, 9}


def test_every_data_set_that_needs_no_file_is_looked_at() -> None:
    for name in ("logic", "separable", "shapes"):
        assert not [row for row in check_data(name) if row["level"] == "error"]


# -------------------------------------------------------------------------------------------------------------- the pag


class Outside(html.parser.HTMLParser):
    """Addresses that a page would fetch, and tags that were not closed."""

    void = ("meta", "img", "rect", "br", "line", "path", "circle")

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value is not None]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.void

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_the_examples_and_fetches_nothing(folder: Path, tmp_path: Path) -> None:
    plant(folder)
    china = folder / "train" / "china"
    (china / "<b>odd & name.png").write_bytes((china / "01.png").read_bytes())
    out = tmp_path / "check.html"
    check_folder(folder, out=out)
    page = out.read_text()
    looked = Outside()
    looked.feed(page)
    assert looked.open == []
    assert looked.addresses
    assert all(address.startswith("data:image/") for address in looked.addresses)
    assert "<script" not in page
    assert "<b>odd" not in page
    assert "&lt;b&gt;odd &amp; name.png" in page
    assert "Training examples in the test part" in page


def test_the_command_prints_findings_writes_the_page_and_tells_errors_by_its_exit(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "check.html"
    out.parent.mkdir()
    words = ["check", "image_folder", f"data.root={folder}", "data.val=0"]
    clean = CliRunner().invoke(app, [*words, "-o", str(out)])
    assert clean.exit_code == 0
    assert f"page     {out}" in clean.stdout
    assert out.is_file()
    plant(folder)
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert found.stdout.startswith("error    1 file cannot be read")
    assert str(folder / "train" / "china" / "03.png") in found.stdout
    rows = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert {row["code"] for row in rows} >= {"unreadable", "near_duplicates_test"}


def test_pages_of_tables_and_texts_show_their_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["size,kind,price"] + [f"{rng.normal():.3f},{'ab'[i % 2]},{rng.normal():.3f}" for i in range(100)]
    (tmp_path / "a.csv").write_text("\n".join([*lines, lines[4], lines[4]]))
    out = tmp_path / "a.html"
    rows = check_data("csv", [("data.root", str(tmp_path / "a.csv")), ("data.target", "price")], out=out)
    assert "duplicates_train" in codes(rows) or "duplicates_test" in codes(rows)
    assert "<th>kind</th>" in out.read_text()
    words = "good bad slow funny story actor plot ending music scene".split()  # noqa: SIM905
    texts = [f"{i % 2},{' '.join(rng.choice(words, 12))} {i}" for i in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["label,text", *texts, texts[9]]))
    where = [("data.root", str(tmp_path / "t.csv")), ("data.text", "text"), ("data.label", "label")]
    rows = check_data("text_table", where, out=out)
    assert any(code.startswith("duplicates") for code in codes(rows))
    assert "<blockquote>" in out.read_text()


def test_hostile_labels_and_values_end_in_findings() -> None:
    columns = {"numeric": torch.zeros(40, 2), "categories": torch.zeros(40, 0).long()}
    columns["numeric"][3, 1] = torch.inf
    labels = torch.arange(40) % 2
    labels[5], labels[6] = 10**12, -7
    splits = Splits(
        train=TensorExamples({**columns, "labels": labels}), facts={"num_classes": 2}, class_names=["a", "b"]
    )
    found = {finding.code: finding for finding in check(splits)}
    assert found["label_range"].level == found["not_finite"].level == "error"
    assert {example.position for example in found["label_range"].examples} == {5, 6}
    assert {example.position for example in found["not_finite"].examples} == {3}


def test_no_examples_at_all_are_an_error() -> None:
    empty = TensorExamples({"numeric": torch.zeros(0, 2), "labels": torch.zeros(0).long()})
    for splits, code in ((Splits(train=empty), "empty"), (Splits(train=None, test=empty), "unreadable")):
        worst = check(splits)[0]
        assert (worst.level, worst.code) == ("error", code)


def test_examples_of_a_part_that_is_another_part_again_are_told_by_position(tmp_path: Path) -> None:
    numbers = torch.arange(60.0).view(30, 2)
    numbers[4] = torch.nan
    whole = TensorExamples({"features": numbers, "target": numbers})
    checked = examine(Splits(train=whole, val=whole))
    write_page(checked, tmp_path / "a.html")
    rows = [row for row in checked.rows() if row["code"] == "not_finite"]
    assert [row["examples"] for row in rows] == [
        [{"part": "train", "note": "features", "id": 4}],
        [{"part": "val", "note": "features", "position": 4}],
    ]
