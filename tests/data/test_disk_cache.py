"""What is kept on disk is whole or not there."""

from pathlib import Path
from typing import Any

import pytest

from layerwise.core.errors import StorageError
from layerwise.data.disk_cache import cache_key, file_stamps, kept


def make(folder: Path) -> dict[str, Any]:
    (folder / "a.bin").write_bytes(b"12345")
    return {"n": 5}


def never(folder: Path) -> dict[str, Any]:
    raise AssertionError("it was made before")


def test_a_result_is_made_once(tmp_path: Path) -> None:
    folder, known = kept(str(tmp_path), "things", "key", make)
    assert (folder, known, (folder / "a.bin").read_bytes()) == (tmp_path / "things" / "key", {"n": 5}, b"12345")
    assert kept(str(tmp_path), "things", "key", never) == (folder, known)


@pytest.mark.parametrize("damage", ["shorter", "gone", "manifest"])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: str) -> None:
    folder, _ = kept(str(tmp_path), "things", "key", make)
    if damage == "shorter":
        (folder / "a.bin").write_bytes(b"123")
    elif damage == "gone":
        (folder / "a.bin").unlink()
    else:
        (folder / "manifest.json").write_text('{"files"')
    again, known = kept(str(tmp_path), "things", "key", make)
    assert (known, (again / "a.bin").read_bytes()) == ({"n": 5}, b"12345")


def test_what_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    def breaks(folder: Path) -> dict[str, Any]:
        make(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(str(tmp_path), "things", "key", breaks)
    assert [path.name for path in (tmp_path / "things").iterdir()] == ["key.lock"]
    (tmp_path / "things" / "key.part").mkdir()  # as a process that was killed leaves it
    (tmp_path / "things" / "key.part" / "b.bin").write_bytes(b"1")
    folder, _ = kept(str(tmp_path), "things", "key", make)
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "manifest.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"Cannot keep what was read in .*file.*data\.cache=FOLDER"):
        kept(str(tmp_path / "file"), "things", "key", make)


def test_keys_tell_parts_and_their_order() -> None:
    assert len({cache_key(1, "a"), cache_key("a", 1), cache_key("1a"), cache_key(1, "a", None)}) == 4
    assert cache_key({"b": 1, "a": 2}) == cache_key({"a": 2, "b": 1})


def test_stamps_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    before = file_stamps([path])
    assert file_stamps([path]) == before
    path.write_text("four")
    assert file_stamps([path]) != before
