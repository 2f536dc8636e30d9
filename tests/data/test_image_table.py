"""Pictures with a CSV file beside them: what the columns mean, how pictures are found, what is refused and how."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.config import parse_component
from layerwise.core.errors import DataError
from layerwise.data.examples import Examples, Splits, TensorExamples
from layerwise.data.image_table import ImageTable, ImageTableConfig, PicturesWithTargets
from layerwise.data.splits import prepare

COUNT = 12


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((6, 6), shade, np.uint8)).save(out, "PNG")
    return out.getvalue()


def folder(root: Path, rows: list[str], header: str = "file,size", count: int = COUNT) -> Path:
    """`count` pictures whose grey value is their number, and labels.csv."""
    root.mkdir(exist_ok=True)
    for k in range(count):
        (root / f"p{k}.png").write_bytes(png(k))
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def load(root: Path, **options: Any) -> Splits:
    return ImageTable(ImageTableConfig(root=str(root), **options)).splits()


def prepared(root: Path, **options: Any) -> Splits:
    return prepare(parse_component("data", {"name": "image_table", "root": str(root), **options}, "data"), 0)


def whole(part: Examples | None) -> dict[str, torch.Tensor]:
    assert part is not None
    return part.collate(torch.arange(len(part)))


def numbers(root: Path, count: int = COUNT) -> Path:
    return folder(root, [f"p{k}.png,{k}.5" for k in reversed(range(count))], count=count)


# -------------------------------------------------------------------------------------------------------- what is read


def test_numbers_stand_beside_their_picture(tmp_path: Path) -> None:
    splits = load(numbers(tmp_path))
    batch = whole(splits.train)
    assert batch["image"].shape == (COUNT, 1, 6, 6)
    assert torch.equal(batch["target"][:, 0], batch["image"][:, 0, 0, 0].double() + 0.5)
    assert splits.extras["targets"] == ["size"]
    assert "num_classes" not in splits.facts


def test_several_number_columns_are_several_targets(tmp_path: Path) -> None:
    rows = [f"p{k}.png,{k}.5,{2 * k}" for k in range(COUNT)]
    splits = load(folder(tmp_path, rows, "file,size,weight"), target=("weight", "size"))
    assert splits.extras["targets"] == ["weight", "size"]
    assert whole(splits.train)["target"][3].tolist() == [6.0, 3.5]


def test_columns_of_yes_and_no_are_labels_and_empty_is_not_known(tmp_path: Path) -> None:
    rows = [f"p{k}.png,{k % 2},{'yes' if k % 3 else ''}" for k in range(COUNT)]
    splits = load(folder(tmp_path, rows, "file,cat,dog"))
    assert splits.class_names == ["cat", "dog"]
    assert splits.facts["num_classes"] == 2
    assert whole(splits.train)["multi_labels"][:4].tolist() == [[0, -1], [1, 1], [0, 1], [1, -1]]


def test_a_column_of_lists_is_labels(tmp_path: Path) -> None:
    rows = [f"p{k}.png,{['cat|dog', 'dog', '', ' dog | bird '][k % 4]}" for k in range(COUNT)]
    splits = load(folder(tmp_path, rows, "file,tags"))
    assert splits.class_names == ["bird", "cat", "dog"]
    assert whole(splits.train)["multi_labels"][:4].tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 1]]


def test_a_list_with_another_separator_is_read_when_named(tmp_path: Path) -> None:
    rows = [f"p{k}.png,{['cat dog', 'dog'][k % 2]}" for k in range(COUNT)]
    assert load(folder(tmp_path, rows, "file,tags")).class_names == ["cat dog", "dog"]
    split = load(tmp_path, separator=" ")
    assert split.class_names == ["cat", "dog"]
    assert whole(split.train)["multi_labels"][:2].tolist() == [[1, 1], [0, 1]]


def test_single_words_are_classes(tmp_path: Path) -> None:
    splits = load(folder(tmp_path, [f"p{k}.png,{['cat', 'dog'][k % 2]}" for k in range(COUNT)], "file,kind"))
    assert splits.class_names == ["cat", "dog"]
    assert whole(splits.train)["labels"][:3].tolist() == [0, 1, 0]


def test_few_whole_numbers_are_numbers_unless_they_are_said_to_be_classes(tmp_path: Path) -> None:
    root = folder(tmp_path, [f"p{k}.png,{k % 3}" for k in range(COUNT)], "file,digit")
    splits = load(root)
    assert "labels" not in whole(splits.train)
    assert "'digit' has 3 different whole numbers and is read as a number" in splits.warnings[0]
    classes = load(root, target_kind="class")
    assert classes.class_names == ["0", "1", "2"]
    assert whole(classes.train)["labels"][:4].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("written", ["p{}.png", "./p{}.png", "p{}", "sub\\p{}.png", "sub/p{}"])
def test_pictures_are_found_by_path_name_or_stem(tmp_path: Path, written: str) -> None:
    if written.startswith("sub"):
        (tmp_path / "sub").mkdir()
        for k in range(COUNT):
            (tmp_path / "sub" / f"p{k}.png").write_bytes(png(k))
        rows = [f"{written.format(k)},{k}.5" for k in range(COUNT)]
        (tmp_path / "labels.csv").write_text("\n".join(["file,size", *rows]) + "\n")
    else:
        folder(tmp_path, [f"{written.format(k)},{k}.5" for k in range(COUNT)])
    batch = whole(load(tmp_path).train)
    assert torch.equal(batch["target"][:, 0], batch["image"][:, 0, 0, 0].double() + 0.5)


def test_the_file_column_is_found_whatever_its_place_and_name(tmp_path: Path) -> None:
    rows = [f"{k}.5,p{k}.png,x" for k in range(COUNT)]
    splits = load(folder(tmp_path, rows, "size,which,note"), target=("size",))
    assert whole(splits.train)["target"][:2, 0].tolist() == [0.5, 1.5]


def test_a_zip_is_read_where_it_lies(tmp_path: Path) -> None:
    numbers(tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted((tmp_path / "a").iterdir()):
            archive.write(file, file.name)
    ours, theirs = whole(load(tmp_path / "a.zip").train), whole(load(tmp_path / "a").train)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_pictures_that_do_not_fit_into_memory_are_decoded_for_every_batch(tmp_path: Path) -> None:
    root = numbers(tmp_path)
    kept, streamed = load(root), load(root, memory_gb=1e-9)
    assert isinstance(kept.train, TensorExamples)
    assert isinstance(streamed.train, PicturesWithTargets)
    assert streamed.train.decodes
    ids = torch.tensor([3, 0, 7])
    ours, theirs = kept.train.collate(ids), streamed.train.collate(ids)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert torch.equal(streamed.train.targets(), whole(kept.train)["target"])
    again = load(root, memory_gb=1e-9).train
    assert again is not None
    assert again.fingerprint() == streamed.train.fingerprint()
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace("3.5", "3.6"))
    changed = load(root, memory_gb=1e-9).train
    assert changed is not None
    assert changed.fingerprint() != streamed.train.fingerprint()


# -------------------------------------------------------------------------------------------------------------- parts


def test_parts_have_the_spread_of_the_whole(tmp_path: Path) -> None:
    splits = prepared(numbers(tmp_path, 100), test=0.2, val=0.1)
    test = whole(splits.test)["target"][:, 0]
    assert len(test) == 20
    assert torch.histc(test, bins=10, min=0, max=100).tolist() == [2.0] * 10


def test_rare_labels_come_into_every_part(tmp_path: Path) -> None:
    rows = [f"p{k}.png,1,{int(k % 10 == 0)}" for k in range(100)]
    splits = prepared(folder(tmp_path, rows, "file,common,rare", count=100), test=0.2, val=0.2)
    shares = [whole(part)["multi_labels"][:, 1].sum().item() for part in (splits.train, splits.val, splits.test)]
    assert sorted(shares)[0] >= 1
    assert sum(shares) == 10


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [f"p{k}.png,{k}.5,who{k // 4}" for k in range(40)]
    root = folder(tmp_path, rows, "file,size,patient", count=40)
    splits = prepared(root, target="size", group="patient", test=0.2, val=0.2)
    groups = [set((whole(part)["target"][:, 0] // 4).tolist()) for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 10


def test_a_file_of_its_own_is_the_test_part(tmp_path: Path) -> None:
    root = folder(tmp_path, [f"p{k}.png,{k}.5" for k in range(8)])
    (root / "held.csv").write_text("file,size\np9.png,9.5\np8.png,8.5\n")
    splits = load(root, test="held.csv")
    assert whole(splits.test)["target"][:, 0].tolist() == [9.5, 8.5]
    assert len(splits.train or []) == 8


# ------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("rows", "header", "options", "message"),
    [
        (["p0.png,1.5", "gone.png,2"], "file,size", {}, r"1 rows name no picture.*3: file='gone.png'.*on_error=skip"),
        (["p0.png,1.5", "p0.png,2"], "file,size", {}, r"line 3: file='p0.png' has a row in line 2 already"),
        (["p0.png,1.5", "p1.png,big"], "file,size", {"target_kind": "number"}, r"line 3: size='big' is not a number"),
        (["p0.png,1.5"], "file,size", {"target": ("sise",)}, r"no column 'sise'\. Did you mean 'size'\?"),
        (["p0.png,1.5,2"], "file,size,width", {}, r"data\.target is needed.*size, width"),
        (["p0.png,1,2"], "file,a,b", {"target": ("a", "b"), "target_kind": "labels"}, r"line 2: b='2' is not 0 or 1"),
        (["p0.png,a,b"], "file,a,b", {"target": ("a", "b"), "target_kind": "class"}, "one column holds the class"),
        (["q0,1.5"], "file,size", {}, r"no column names pictures.*data\.file=COLUMN"),
        (["p0.png,"], "file,size", {"target_kind": "number"}, "1 of 1 rows lack a value of size"),
        (["p0.png,1"], "file,file", {}, "'file' is named twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_row_and_column(
    tmp_path: Path, rows: list[str], header: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(folder(tmp_path, rows, header), **options)


def test_a_missing_csv_file_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    numbers(tmp_path)
    (tmp_path / "labels.csv").rename(tmp_path / "sizes.csv")
    with pytest.raises(DataError, match=r"no file 'labels\.csv'.*data\.labels=FILE\. Its CSV files: sizes\.csv"):
        load(tmp_path)
    assert len(load(tmp_path, labels="sizes.csv").train or []) == COUNT


def test_test_files_with_labels_or_classes_that_training_lacks_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, [f"p{k}.png,{['a|b', 'b'][k % 2]}" for k in range(8)], "file,tags")
    (root / "held.csv").write_text("file,tags\np9.png,b|c\n")
    with pytest.raises(DataError, match=r"held\.csv, line 2: tags has the label 'c', which the training file has not"):
        load(root, test="held.csv")
    (root / "held.csv").write_text("file,other\np9.png,b\n")
    with pytest.raises(DataError, match="has no column 'tags'"):
        load(root, test="held.csv")


def test_rows_that_cannot_be_used_are_left_out_and_told_where_asked(tmp_path: Path) -> None:
    rows = ["p0.png,1.5", "gone.png,2", "p1.png,3.5", "p1.png,3.5", "p2.png,", "p3.png,4.5", "p4.png,5.5"]
    root = folder(tmp_path, rows)
    (root / "p3.png").write_bytes(b"no picture")
    splits = load(root, on_error="skip")
    batch = whole(splits.train)
    assert batch["target"][:, 0].tolist() == [1.5, 3.5, 5.5]
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 1, 4]
    told = " ".join(splits.warnings)
    assert "file='gone.png'" in told
    assert "1 rows repeat a picture" in told
    assert "1 of 7 rows lack a value of size" in told
    assert "p3.png" in told
    (root / "labels.csv").write_text("file,size\np0.png,1.5\np3.png,4.5\n")
    with pytest.raises(DataError, match=r"p3\.png cannot be read"):
        load(root)


def test_two_pictures_of_one_name_are_told_apart_by_their_path(tmp_path: Path) -> None:
    for name, shade in (("a", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(shade))
    (tmp_path / "labels.csv").write_text("file,size\na/x.png,1.5\nb/x.png,2.5\n")
    assert whole(load(tmp_path).train)["image"][:, 0, 0, 0].tolist() == [10, 20]
    (tmp_path / "labels.csv").write_text("file,size\na/x.png,1.5\nx.png,2.5\n")
    with pytest.raises(DataError, match=r"line 3: file='x\.png'"):
        load(tmp_path)
