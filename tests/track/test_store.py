"""Training state: exact, checksummed, whole after a kill, free of pickle."""

import errno
import json
import math
import os
import random
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from layerwise.core.errors import CheckpointError, StorageError
from layerwise.track import files, store
from layerwise.track.store import StateKeeper, list_states, load_tree, newest_state, save_tree, state_name


def no_warning(text):
    raise AssertionError(f"unexpected warning: {text}")


def bits(tensor):
    return tensor.contiguous().view(-1).view(torch.uint8).tolist()


def same(a, b):
    """Equality of trees to the last bit and type."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return a.hex() == b.hex()
    return a == b


def round_trip(tmp_path, tree):
    save_tree(tmp_path / "state", tree)
    return load_tree(tmp_path / "state")


# ------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64,
        torch.int64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float32,
        torch.float64, torch.complex64,
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 5)], ids=str)
def test_tensors_come_back_bit_for_bit(tmp_path, dtype, shape):
    count = math.prod(shape)
    width = torch.empty(0, dtype=dtype).element_size()
    if dtype == torch.bool:
        value = torch.tensor([i % 2 == 0 for i in range(count)]).view(shape)
    else:
        rng = random.Random(0)
        raw = torch.tensor([rng.randrange(256) for _ in range(count * width)], dtype=torch.uint8)
        value = raw.view(dtype).view(shape)
    assert same(round_trip(tmp_path, {"x": value}), {"x": value})


def test_mixed_widths_come_back_and_the_library_reads_them(tmp_path):
    """Odd sizes of narrow types must not shift the wide ones."""
    tree = {
        "flag": torch.tensor([True, False, True]),
        "wide": torch.arange(3, dtype=torch.float64),
        "half": torch.arange(5, dtype=torch.bfloat16),
    }
    assert same(round_trip(tmp_path, tree), tree)
    assert same(dict(sorted(load_file(tmp_path / "state" / "tensors.safetensors").items())), dict(sorted(tree.items())))


def test_every_tensor_in_the_file_is_aligned_to_its_width(tmp_path):
    kinds = [torch.bool, torch.float64, torch.int8, torch.bfloat16, torch.float32, torch.uint8, torch.int64]
    save_tree(tmp_path / "state", {str(kind): torch.zeros(3, dtype=kind) for kind in kinds})
    data = (tmp_path / "state" / "tensors.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    for kind in kinds:
        assert header[str(kind)]["data_offsets"][0] % torch.empty(0, dtype=kind).element_size() == 0


def test_everything_is_on_disk_before_the_state_gets_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os,
        "fsync",
        lambda handle: (calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))), fsync(handle)),
    )
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append("rename"), rename(a, b)))
    save_tree(tmp_path / state_name(1), {"w": torch.ones(1)})
    temporary = calls[3]
    assert temporary.startswith(files.TEMPORARY)
    assert calls == ["tensors.safetensors", "tree.json", "manifest.json", temporary, "rename", tmp_path.name]


def test_non_contiguous_and_conjugated_tensors_keep_their_values(tmp_path):
    base = torch.arange(24.0).view(2, 3, 4)
    picture = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tree = {
        "turned": base.transpose(0, 2),
        "part": base[:, 1, ::2],
        "picture": picture,
        "spread": torch.ones(1, 3).expand(4, 3),
        "conj": torch.tensor([1 + 2j]).conj(),
    }
    loaded = round_trip(tmp_path, tree)
    for name, value in tree.items():
        assert loaded[name].is_contiguous()
        assert torch.equal(loaded[name], value), name


def test_tied_tensors_are_one_again(tmp_path):
    weight = torch.nn.Parameter(torch.rand(4, 3))
    tree = {"embedding": weight, "head": weight.detach(), "list": [weight.view(4, 3)], "copy": weight.detach().clone()}
    loaded = round_trip(tmp_path, tree)
    loaded["embedding"].zero_()
    assert float(loaded["head"].abs().sum()) == 0
    assert loaded["list"][0] is loaded["embedding"]
    assert float(loaded["copy"].sum()) > 0
    assert len(load_file(tmp_path / "state" / "tensors.safetensors")) == 2


def test_different_windows_on_one_memory_are_not_tied(tmp_path):
    base = torch.arange(6.0)
    tree = {"all": base, "first": base[:3], "same_start": base.view(2, 3), "empty": base[:0], "empty_too": base[:0]}
    assert same(round_trip(tmp_path, tree), tree)


FLOATS = [0.1, -0.0, 1e-320, 5e-324, 1.7976931348623157e308, math.pi, 1 / 3, math.inf, -math.inf, 1e22, 1e16]


def test_floats_are_exact(tmp_path):
    assert same(round_trip(tmp_path, FLOATS), FLOATS)
    assert math.isnan(round_trip(tmp_path, {"x": math.nan})["x"])


def test_integers_of_any_size(tmp_path):
    values = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, -(2**200) + 7, 7**6000]
    assert same(round_trip(tmp_path, values), values)


def test_plain_values_keep_type_and_order(tmp_path):
    tree = {"z": True, "a": 1, "f": 1.0, "s": '\u03b1\n"\\ud800\x00', "n": None, "l": [[], {}, [False]], "": {"": 0}}
    assert same(round_trip(tmp_path, tree), tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"$": ["tensor", "w"]},
        {"$": 1, "other": torch.ones(2)},
        {"$": {"$": ["int", "0xff"]}},
        {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "a/b": torch.ones(2)},
        {"a": {"b": torch.zeros(1)}, "a/b": torch.ones(1), "a/b'": torch.ones(3)},
        {"__metadata__": torch.ones(2)},
        {"\ud800": torch.ones(1)},
        torch.ones(3),
        [],
        None,
        5,
    ],
    ids=str,
)
def test_awkward_names_and_roots(tmp_path, tree):
    assert same(round_trip(tmp_path, tree), tree)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": [0, {"b": (1, 2)}]}, "a/1/b: .*tuple"),
        ({"a": {1: 2}}, "a: the key 1 is a int"),
        ({"a": {3}}, "a: .*set"),
        ({"a": b"x"}, "a: .*bytes"),
        ({"a": torch.float32}, "a: .*dtype"),
        ({"a": torch.ones(2).numpy()[0]}, "a: .*numpy.float32"),
        ({"a": torch.eye(2).to_sparse()}, "a: .*sparse"),
        ({"a": torch.empty(2, device="meta")}, "a: .*meta"),
        ({"a": torch.zeros(1, dtype=torch.complex128)}, "a: .*complex128"),
        ({"a": lambda: 0}, "a: .*function"),
    ],
)
def test_other_leaves_are_named_by_path(tmp_path, tree, message):
    with pytest.raises(TypeError, match=message):
        save_tree(tmp_path / "state", tree)
    assert os.listdir(tmp_path) == []


def test_no_file_begins_with_a_pickle_or_zip_magic(tmp_path):
    keeper = StateKeeper(tmp_path, warn=no_warning)
    keeper.save(1, {"w": torch.rand(3), "n": [1, 2.5, None]})
    keeper.wait()
    found = sorted(path.name for path in (tmp_path / state_name(1)).iterdir())
    assert found == ["manifest.json", "tensors.safetensors", "tree.json"]
    for path in (tmp_path / state_name(1)).iterdir():
        start = path.read_bytes()[:4]
        assert not start.startswith((b"\x80", b"PK\x03\x04", b"\x1f\x8b"))
        assert b"pickle" not in path.read_bytes()
    json.loads((tmp_path / state_name(1) / "tree.json").read_text(), parse_constant=pytest.fail)


def test_loaded_tensors_survive_the_files(tmp_path):
    loaded = round_trip(tmp_path, {"x": torch.arange(5.0)})
    with open(tmp_path / "state" / "tensors.safetensors", "r+b") as file:
        file.write(bytes(200))
    assert loaded["x"].tolist() == [0, 1, 2, 3, 4]
    assert loaded["x"].data_ptr() % 64 == 0


# ------------------------------------------------------------------------------------------------------- damage


def filled(folder, steps=(1, 2, 3)):
    for step in steps:
        save_tree(folder / state_name(step), {"step": step, "w": torch.full((50,), float(step))})


DAMAGE = {
    "flipped bit in tensors": lambda d: flip(d / "tensors.safetensors", -5),
    "flipped bit in tree": lambda d: flip(d / "tree.json", 2),
    "torn tensors": lambda d: os.truncate(d / "tensors.safetensors", 40),
    "empty tree": lambda d: os.truncate(d / "tree.json", 0),
    "no tensors": lambda d: (d / "tensors.safetensors").unlink(),
    "no manifest": lambda d: (d / "manifest.json").unlink(),
    "torn manifest": lambda d: os.truncate(d / "manifest.json", 30),
    "foreign manifest": lambda d: (d / "manifest.json").write_text("[]"),
    "no files": lambda d: [path.unlink() for path in d.iterdir()],
}


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_newest_is_named_and_the_one_before_used(tmp_path, damage):
    filled(tmp_path)
    damage(tmp_path / state_name(3))
    said = []
    step, tree = newest_state(tmp_path, said.append)
    assert step == 2
    assert tree["step"] == 2
    assert len(said) == 1
    assert state_name(3) in said[0]
    assert "one before it is used" in said[0]


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
    filled(tmp_path, (1, 2))
    flip(tmp_path / state_name(1) / "tree.json", 3)
    flip(tmp_path / state_name(2) / "tree.json", 3)
    said = []
    with pytest.raises(CheckpointError, match="All 2 states"):
        newest_state(tmp_path, said.append)
    assert len(said) == 2


def test_no_state_is_none(tmp_path):
    assert newest_state(tmp_path, no_warning) is None
    assert newest_state(tmp_path / "absent", no_warning) is None


def test_states_are_ordered_by_number(tmp_path):
    filled(tmp_path, (10**9 + 1, 999_999_999, 5))
    assert [step for step, _ in list_states(tmp_path)] == [5, 999_999_999, 10**9 + 1]


def test_known_damaged_state_does_not_count_as_kept(tmp_path):
    filled(tmp_path, (1, 2))
    flip(tmp_path / state_name(2) / "tree.json", 3)
    keeper = StateKeeper(tmp_path, keep_last=2, warn=lambda text: None)
    assert keeper.newest()[0] == 1
    keeper.save(3, {"step": 3})
    keeper.wait()
    assert [step for step, _ in list_states(tmp_path)] == [1, 3]


def test_damaged_state_is_replaced_by_one_of_the_same_step(tmp_path):
    filled(tmp_path, (1, 2))
    flip(tmp_path / state_name(2) / "tree.json", 3)
    keeper = StateKeeper(tmp_path, keep_last=2, warn=lambda text: None)
    keeper.newest()
    keeper.save(2, {"step": 2, "again": True})
    keeper.wait()
    assert newest_state(tmp_path, no_warning) == (2, {"step": 2, "again": True})
    assert [step for step, _ in list_states(tmp_path)] == [1, 2]


# -------------------------------------------------------------------------------------------------------- keeper


def test_retention_keeps_the_last_and_the_milestones(tmp_path):
    keeper = StateKeeper(tmp_path, keep_last=2, milestones=(3, 5), warn=no_warning)
    for step in range(1, 10):
        keeper.save(step, {"step": step})
    keeper.wait()
    assert [step for step, _ in list_states(tmp_path)] == [3, 5, 8, 9]
    assert sorted(os.listdir(tmp_path)) == [state_name(step) for step in (3, 5, 8, 9)]


def test_tree_may_change_as_soon_as_save_returns(tmp_path, monkeypatch):
    """The write is held back until the live tree was overwritten."""
    changed = threading.Event()
    write = store._write

    def late(*arguments):
        assert changed.wait(10)
        write(*arguments)

    monkeypatch.setattr(store, "_write", late)
    keeper = StateKeeper(tmp_path, warn=no_warning)
    weight, numbers = torch.arange(100.0).view(10, 10).t(), [1, 2, 3]
    keeper.save(1, {"w": weight, "tied": weight, "n": numbers})
    expected = weight.clone()
    weight.zero_()
    numbers.append(4)
    changed.set()
    _, tree = keeper.newest()
    assert torch.equal(tree["w"], expected)
    assert tree["tied"] is tree["w"]
    assert tree["n"] == [1, 2, 3]


def test_buffers_are_kept_and_a_second_save_waits(tmp_path, monkeypatch):
    running = []
    write = store._write

    def slow(*arguments):
        running.append(1)
        assert len(running) == 1, "two writes at a time"
        time.sleep(0.05)
        write(*arguments)
        running.pop()

    monkeypatch.setattr(store, "_write", slow)
    keeper = StateKeeper(tmp_path, keep_last=9, warn=no_warning)
    picture = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    tree = {"a": torch.rand(64, 64), "b": picture, "c": torch.ones(2, 6)[:, ::2]}
    seen = set()
    for step in range(1, 5):
        keeper.save(step, {**tree, "step": torch.tensor(step)})
        seen.add(tuple(buffer.data_ptr() for _, buffer in keeper._buffers.values()))
    keeper.wait()
    assert len(seen) == 1
    for step in range(1, 5):
        assert int(load_tree(tmp_path / state_name(step))["step"]) == step


def test_changed_shape_and_dtype_get_new_buffers(tmp_path):
    keeper = StateKeeper(tmp_path, keep_last=9, warn=no_warning)
    trees = [
        {"a": torch.ones(3)},
        {"a": torch.ones(2, 3)},
        {"a": torch.ones(2, 3, dtype=torch.int64)},
        {"b": torch.zeros(1)},
    ]
    for step, tree in enumerate(trees):
        keeper.save(step, tree)
    keeper.wait()
    for step, tree in enumerate(trees):
        assert same(load_tree(tmp_path / state_name(step)), tree)


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_full_disk_is_raised_at_the_next_save_and_the_previous_state_is_whole(tmp_path, monkeypatch, call):
    keeper = StateKeeper(tmp_path, warn=no_warning)
    keeper.save(1, {"step": 1})
    keeper.wait()

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    keeper.save(2, {"step": 2, "w": torch.ones(10)})
    with pytest.raises(StorageError, match=f"{state_name(2)}: the disk is full"):
        keeper.save(3, {"step": 3})
    monkeypatch.undo()
    assert keeper.newest() == (1, {"step": 1})
    assert os.listdir(tmp_path) == [state_name(1)]
    keeper.save(3, {"step": 3})
    keeper.wait()
    assert newest_state(tmp_path, no_warning)[0] == 3


def test_really_full_disk_keeps_the_previous_state(tmp_path):
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        keeper = StateKeeper(tmp_path, warn=no_warning)
        keeper.save(1, {"step": 1, "w": torch.ones(50_000)})
        keeper.wait()
        keeper.save(2, {"step": 2, "w": torch.ones(500_000)})
        with pytest.raises(StorageError, match="the disk is full"):
            keeper.wait()
        assert os.listdir(tmp_path) == [state_name(1)]
        assert keeper.newest()[0] == 1
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_leftovers_of_killed_writes_are_removed_by_a_new_keeper(tmp_path):
    filled(tmp_path, (1,))
    left = tmp_path / f"{files.TEMPORARY}{state_name(2)}-77-ab"
    left.mkdir()
    (left / "tensors.safetensors").write_bytes(b"half")
    assert newest_state(tmp_path, no_warning)[0] == 1
    assert left.exists()
    StateKeeper(tmp_path, warn=no_warning)
    assert os.listdir(tmp_path) == [state_name(1)]


def test_kill_between_the_renames_of_a_replacement_loses_nothing(tmp_path, monkeypatch):
    filled(tmp_path, (1,))
    rename = os.rename

    def killed(source, target):
        if str(source).find(files.TEMPORARY) >= 0:
            raise KeyboardInterrupt  # not an OSError: nothing is undone, as after a kill
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        save_tree(tmp_path / state_name(1), {"step": "new"})
    monkeypatch.undo()
    assert list_states(tmp_path) == []
    keeper = StateKeeper(tmp_path, warn=no_warning)
    step, tree = keeper.newest()
    assert (step, tree["step"]) == (1, 1)
    assert os.listdir(tmp_path) == [state_name(1)]


def test_clear_removes_all_states(tmp_path):
    keeper = StateKeeper(tmp_path, warn=no_warning)
    keeper.save(1, {})
    keeper.clear()
    assert os.listdir(tmp_path) == []


KILLED_WRITERS = """
    import json, os, random, signal, sys, time
    import torch
    from layerwise.track.store import StateKeeper, list_states, newest_state
    torch.set_num_threads(1)
    folder, rng = sys.argv[1], random.Random(0)

    def save_for_ever():
        keeper = StateKeeper(folder, keep_last=2, warn=lambda text: None)
        found = keeper.newest()
        step, weight = found[0] if found else 0, torch.zeros(100_000)
        while True:
            step += 1
            weight.fill_(step)
            keeper.save(step, {"step": step, "w": weight, "numbers": [float(step)] * 50})

    def newest_name():
        return max((step for step, _ in list_states(folder)), default=0)

    for _ in range(30):
        before = newest_name()
        writer = os.fork()
        if writer == 0:
            save_for_ever()
        while newest_name() <= before:
            time.sleep(0.001)
        time.sleep(0.05 * rng.random())
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        said = []
        found = newest_state(folder, said.append)
        step, tree = found or (0, {"step": 0, "w": torch.zeros(100_000), "numbers": [0.0] * 50})
        whole = tree["step"] == step and bool((tree["w"] == step).all()) and tree["numbers"] == [float(step)] * 50
        print(json.dumps({"step": step, "whole": whole, "said": said}))
"""


def test_killed_at_any_moment_the_newest_state_is_whole(tmp_path):
    """Thirty SIGKILLs while saving in a loop; what is newest afterwards is whole, consistent, not older than before."""
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED_WRITERS), str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    rounds = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(rounds) == 30
    assert all(each["whole"] and not each["said"] for each in rounds)
    steps = [each["step"] for each in rounds]
    assert all(a < b for a, b in pairwise([0, *steps]))
    StateKeeper(tmp_path, warn=no_warning)
    assert all(name.startswith("step-") for name in os.listdir(tmp_path))
