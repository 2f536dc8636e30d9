"""A person's corpus: which files are which part, what is an example, how few documents are cut."""

import json
from pathlib import Path

import pytest

from layerwise.core import discovery
from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Splits
from layerwise.data.splits import load, prepare
from layerwise.data.text import Text, TextConfig
from layerwise.data.text_store import TextStore

TEXT = "".join(chr(97 + i % 26) for i in range(1000))


def write(folder: Path, text: str | bytes = TEXT, name: str = "text.txt") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def read(root: object, **options: object) -> Splits:
    return load(parse_component("data", {"name": "text", "root": str(root), **options}, "data"))


def texts(splits: Splits) -> list[list[str] | None]:
    parts = (splits.train, splits.val, splits.test)
    return [None if part is None else list(part.texts or ()) for part in parts]


def test_one_text_is_cut_into_its_parts_in_order(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert texts(read(path)) == [[TEXT[:810]], [TEXT[810:900]], [TEXT[900:]]]
    assert texts(read(path, test=0)) == [[TEXT[:900]], [TEXT[900:]], None]
    assert texts(read(path, test=0.5, val=0.25)) == [[TEXT[:375]], [TEXT[375:500]], [TEXT[500:]]]
    assert texts(read(path, test=0, val=0)) == [[TEXT], None, None]
    assert texts(prepare(parse_component("data", {"name": "text", "root": path}, "data"), 0)) == texts(read(path))


def test_a_cut_falls_between_characters(tmp_path: Path) -> None:
    parts = texts(read(write(tmp_path, "\u6f22" * 97)))
    assert "".join(text for part in parts for text in part or ()) == "\u6f22" * 97
    assert [len(part[0]) for part in parts if part] == [78, 9, 10]  # 291 bytes: 261 and 234 are inside no character


def test_parts_of_their_own(tmp_path: Path) -> None:
    own = read(write(tmp_path), val=write(tmp_path, "zebra \u03a9", "val/v.txt"), test=write(tmp_path, "x", "t.txt"))
    assert texts(own) == [[TEXT], ["zebra \u03a9"], ["x"]]


@pytest.mark.parametrize("share", [0.9999, 1.0])
def test_shares_that_leave_a_part_empty_are_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.val=.* leaves one part empty"):
        read(write(tmp_path, "abcd"), val=share, test=0)


def test_a_limit_on_documents_is_refused_where_a_text_is_cut(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.limit=3 counts documents.*1 document is read.*max_steps"):
        read(write(tmp_path), limit=3)


def test_a_folder_is_read_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b/1.txt", "a.txt", "c.TXT", "d.md", ".hidden.txt", "b/2.txt.gz"):
        write(tmp_path, name, name)
    assert texts(read(tmp_path, val=0, test=0)) == [["a.txt", "b/1.txt", "b/2.txt.gz", "c.TXT"], None, None]


def test_ten_documents_are_dealt_out_whole_by_the_seed(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path, f"text {number}", f"{number:02}.txt")
    component = parse_component("data", {"name": "text", "root": str(tmp_path)}, "data")
    parts = [texts(prepare(component, seed)) for seed in (0, 0, 1)]
    assert [len(part or ()) for part in parts[0]] == [16, 2, 2]
    assert sorted(text for part in parts[0] for text in part or ()) == sorted(f"text {i}" for i in range(20))
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize("names", [("train.txt", "valid.txt", "test.txt"), ("train/a.txt", "dev/a.txt", "test/b.txt")])
def test_files_and_folders_named_after_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in (*names, "notes.txt"):
        write(tmp_path, name, name)
    found = read(tmp_path)
    assert texts(found) == [[name] for name in names]
    assert found.warnings == [
        f"data.root={tmp_path}: the folder has parts named train, val or test; 1 other files are left out (notes.txt)."
    ]


def test_shards_named_after_parts_as_on_the_hub(tmp_path: Path) -> None:
    for part in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        write(tmp_path, json.dumps({"text": part}) + "\n", f"data/{part}.jsonl")
    assert texts(read(tmp_path, test=0)) == [
        ["train-00000-of-00002", "train-00001-of-00002"],
        ["validation-00000-of-00001"],
        None,
    ]


def test_without_a_train_part_all_files_are_one_corpus(tmp_path: Path) -> None:
    write(tmp_path, "a", "test.txt")
    write(tmp_path, "b", "valid.txt")
    assert texts(read(tmp_path, test=0, val=0)) == [["a", "b"], None, None]


def test_files_of_two_kinds_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path, "a", "readme.txt")
    write(tmp_path, '{"text": "b"}', "data.jsonl")
    with pytest.raises(DataError, match=r"text files \(readme\.txt, \.\.\.\) and tables \(data\.jsonl, \.\.\.\)"):
        read(tmp_path)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root is required"):
        Text(TextConfig()).splits()
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no \.txt, \.jsonl"):
        read(tmp_path / "empty")
    with pytest.raises(DataError, match=r"text\.txt: the file is empty"):
        read(write(tmp_path, ""))
    with pytest.raises(DataError, match=r"data\.val=.*no such file"):
        read(write(tmp_path), val=str(tmp_path / "nowhere"))


def store(splits: Splits) -> TextStore:
    found = splits.train.texts if splits.train is not None else None
    assert isinstance(found, TextStore)
    return found


def test_what_is_small_lies_in_memory_and_a_cache_that_is_named_is_used(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / "corpus", f"text {number}", f"{number:02}.txt")
    write(tmp_path / "corpus", "  \n", "empty.txt")
    here, there = read(tmp_path / "corpus"), read(tmp_path / "corpus", cache=str(tmp_path / "cache"))
    again = read(tmp_path / "corpus", cache=str(tmp_path / "cache"))
    assert store(here).cache is None
    assert store(there).cache == store(again).cache == tmp_path / "cache"
    assert texts(here) == texts(there) == texts(again)
    assert here.warnings == there.warnings == again.warnings != []
    assert store(here).digest == store(there).digest == store(again).digest


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path, cache = write(tmp_path, "one" * 50), str(tmp_path / "cache")
    assert texts(read(path, cache=cache, test=0, val=0)) == [["one" * 50], None, None]
    write(tmp_path, "two" * 50)
    assert texts(read(path, cache=cache, test=0, val=0)) == [["two" * 50], None, None]


def test_options_are_known_without_importing_the_module() -> None:
    assert type(discovery.spec("data", "text").defaults).__name__ == "TextConfig"
    assert discovery.spec("data", "tiny_shakespeare").defaults.test == 0.0
