"""Atomic files: the old one or the new one, whatever happens."""

import errno
import hashlib
import json
import os
import shutil
import subprocess

import pytest

from layerwise.core.errors import CheckpointError, StorageError
from layerwise.track import files


def failing(code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    return fail


def test_replaces_content_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    files.write_text(path, "n\u00e9w")
    assert path.read_bytes() == b"n\xc3\xa9w"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_comes_back(tmp_path):
    tree = {"a": [1, 2.5, None, True, "\u03b1"], "b": {}}
    files.write_json(tmp_path / "a.json", tree)
    assert files.read_json(tmp_path / "a.json") == tree


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
)
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_failed_write_keeps_the_previous_file(tmp_path, monkeypatch, code, reason, call):
    path = tmp_path / "a.txt"
    files.write_text(path, "previous")
    monkeypatch.setattr(os, call, failing(code))
    with pytest.raises(StorageError, match=f"{path}: .*{reason}") as caught:
        files.write_text(path, "new")
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert path.read_text() == "previous"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    files.write_bytes(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_file_and_folder_are_synchronised_in_order(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (calls.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))[1]
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b))[1])
    files.write_text(tmp_path / "a", "x")
    assert calls[0].startswith(str(tmp_path / files.TEMPORARY))
    assert calls[1:] == ["rename", str(tmp_path)]


def test_digest_is_of_the_bytes_written(tmp_path):
    found = files.write_new(tmp_path / "a", [b"abc", b"", memoryview(b"def")])
    assert found == {"bytes": 6, "sha256": hashlib.sha256(b"abcdef").hexdigest()}
    assert files.sha256(tmp_path / "a") == found["sha256"]


def test_missing_and_damaged_json_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.json is missing"):
        files.read_json(tmp_path / "gone.json")
    (tmp_path / "torn.json").write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(CheckpointError, match=r"torn\.json is damaged"):
        files.read_json(tmp_path / "torn.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"binary\.json is damaged"):
        files.read_json(tmp_path / "binary.json")


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_really_full_disk(tiny_disk):
    path = tiny_disk / "a.bin"
    files.write_bytes(path, b"previous" * 1000)
    with pytest.raises(StorageError, match="disk is full"):
        files.write_bytes(path, bytes(2 << 20))
    assert path.read_bytes() == b"previous" * 1000
    assert os.listdir(tiny_disk) == ["a.bin"]


def test_really_read_only_disk(tiny_disk):
    path = tiny_disk / "a.bin"
    files.write_bytes(path, b"previous")
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(StorageError, match="read-only"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"previous"
