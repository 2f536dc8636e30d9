"""Planetoid files: what is read, what is refused.

Small files are written here byte by byte, as Python 2 would have pickled them.
"""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerwise.core.errors import DataError
from layerwise.data.planetoid import Planetoid, PlanetoidConfig, read_planetoid_part

NODES, TESTS, FEATURES, CLASSES = 530, 4, 5, 3
TEST_INDEX = [529, 526, 524, 527]  # 525 and 528 are in no file: isolated, without features


def array_pickle(values: np.ndarray) -> bytes:
    """Opcodes of protocol 0 for `_reconstruct(ndarray, (0,), 'b')` and its state."""
    shape = b"(" + b"".join(b"I%d\n" % size for size in values.shape) + b"t"
    kind = b"(cnumpy\ndtype\n(S'" + values.dtype.str[1:].encode() + b"'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    kind = kind[1:]  # the dtype stands inside the state tuple without a mark of its own
    content = repr(values.tobytes().decode("latin1"))
    text = content.encode("ascii", "backslashreplace")
    state = b"(I1\n" + shape + kind + b"I00\nS" + text + b"\ntb"
    return b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR" + state


def matrix_pickle(dense: np.ndarray) -> bytes:
    """A scipy.sparse.csr_matrix: an empty instance and its attributes."""
    rows, columns = np.nonzero(dense)
    offsets = np.concatenate([[0], np.bincount(rows, minlength=len(dense)).cumsum()]).astype(np.int32)
    state = b"(dS'_shape'\n(I%d\nI%d\nts" % dense.shape
    for name, part in (("data", dense[rows, columns]), ("indices", columns.astype(np.int32)), ("indptr", offsets)):
        state += b"S'" + name.encode() + b"'\n" + array_pickle(part) + b"s"
    return b"cscipy.sparse.csr\ncsr_matrix\n(tR" + state + b"b"


def graph_pickle(graph: Mapping[int, list[int]]) -> bytes:
    body = b"".join(b"I%d\n(l" % a + b"".join(b"I%d\na" % b for b in near) + b"s" for a, near in graph.items())
    return b"ccollections\ndefaultdict\n(c__builtin__\nlist\ntR" + body


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A graph of 530 nodes: 6 for training, 500 for validation, 18 without label use, 4 for test, 2 isolated."""
    rng = np.random.default_rng(0)
    known = NODES - 6
    allx = (rng.random((known, FEATURES)) < 0.5).astype(np.float32)
    allx[:, 0] = 1.0
    tx = np.diag(np.arange(1.0, 5.0, dtype=np.float32))
    tx = np.concatenate([tx, np.ones((TESTS, 1), np.float32)], axis=1)
    ally = np.eye(CLASSES, dtype=np.int32)[np.arange(known) % CLASSES]
    ty = np.eye(CLASSES, dtype=np.int32)[[2, 0, 1, 1]]
    graph: dict[int, list[int]] = {0: [1, 2, 0], 1: [0], 2: [1, 529], 526: [524]}
    parts = {
        "x": matrix_pickle(allx[:6]), "y": array_pickle(ally[:6]), "tx": matrix_pickle(tx), "ty": array_pickle(ty),
        "allx": matrix_pickle(allx), "ally": array_pickle(ally), "graph": graph_pickle(graph),
    }  # fmt: skip
    for name, content in parts.items():
        (tmp_path / f"ind.cora.{name}").write_bytes(content + b".")
    (tmp_path / "ind.cora.test.index").write_text("".join(f"{i}\n" for i in TEST_INDEX))
    return tmp_path


def nodes_of(part: Any) -> list[int]:
    return part.collate(torch.arange(len(part)))["nodes"].tolist()


def test_splits_are_the_first_nodes_the_next_500_and_the_test_index(folder: Path) -> None:
    splits = Planetoid(PlanetoidConfig(root=str(folder))).splits()
    assert nodes_of(splits.train) == list(range(6))
    assert nodes_of(splits.val) == list(range(6, 506))
    assert nodes_of(splits.test) == sorted(TEST_INDEX)
    assert splits.facts == {"in_features": FEATURES, "num_classes": CLASSES, "sparse_features": True}


def test_test_rows_stand_at_their_own_numbers_and_missing_ones_are_zero(folder: Path) -> None:
    splits = Planetoid(PlanetoidConfig(root=str(folder), row_normalise=False)).splits()
    batch = splits.test.collate(torch.arange(4))  # pyright: ignore[reportOptionalMemberAccess]
    for row, node in enumerate(TEST_INDEX):
        wanted = [0.0] * 4 + [1.0]
        wanted[row] = row + 1.0
        assert batch["features"][node].tolist() == wanted
    assert batch["features"][[525, 528]].abs().sum() == 0
    assert batch["labels"].tolist() == [1, 0, 1, 2]  # nodes 524, 526, 527, 529


def test_rows_are_divided_by_their_sum(folder: Path) -> None:
    splits = Planetoid(PlanetoidConfig(root=str(folder))).splits()
    sums = splits.train.collate(torch.tensor([0]))["features"].sum(1)  # pyright: ignore[reportOptionalMemberAccess]
    wanted = torch.ones(NODES)
    wanted[[525, 528]] = 0.0
    torch.testing.assert_close(sums, wanted)


def test_edges_go_both_ways_once_and_without_loops(folder: Path) -> None:
    edges = Planetoid(PlanetoidConfig(root=str(folder))).splits().train.collate(torch.tensor([0]))["edge_index"]  # pyright: ignore[reportOptionalMemberAccess]
    pairs = [(0, 1), (0, 2), (1, 2), (2, 529), (524, 526)]
    assert sorted(map(tuple, edges.T.tolist())) == sorted([*pairs, *((b, a) for a, b in pairs)])


def test_every_batch_shares_the_graph(folder: Path) -> None:
    splits = Planetoid(PlanetoidConfig(root=str(folder))).splits()
    assert splits.train is not None
    assert splits.val is not None
    first, second = splits.train.collate(torch.tensor([0])), splits.val.collate(torch.tensor([3, 1]))
    assert first["features"] is second["features"]
    assert first["edge_index"] is second["edge_index"]
    assert second["sample_ids"].tolist() == [9, 7]


def test_a_pickle_that_runs_a_command_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "ind.cora.x"
    path.write_bytes(b"cposix\nsystem\n(S'touch %s'\ntR." % str(mark).encode())
    with pytest.raises(DataError, match=r"posix\.system"):
        read_planetoid_part(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", [b"builtins\neval", b"__builtin__\neval", b"numpy\nload", b"numpy.core.multiarray\nscalar", b"os\nsystem"]
)
def test_names_that_the_files_do_not_hold_are_refused(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "ind.cora.x"
    path.write_bytes(b"c" + name + b"\n(S'1'\ntR.")
    with pytest.raises(DataError, match="names"):
        read_planetoid_part(path)


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ind.cora.x"
    path.write_bytes(array_pickle(np.zeros(2, np.int64)).replace(b"S'i8'", b"S'O8'") + b".")
    with pytest.raises(DataError, match="plain numbers"):
        read_planetoid_part(path)


@pytest.mark.parametrize("keep", [0, 1, 40, 200])
def test_a_truncated_file_is_named(folder: Path, keep: int) -> None:
    path = folder / "ind.cora.allx"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"ind\.cora\.allx"):
        Planetoid(PlanetoidConfig(root=str(folder))).splits()


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "ind.cora.ty").unlink()
    with pytest.raises(DataError, match=r"ind\.cora\.ty"):
        Planetoid(PlanetoidConfig(root=str(folder))).splits()


@pytest.mark.parametrize(
    ("graph", "nodes", "edges", "features", "classes"),
    [("cora", 2708, 5278, 1433, 7), ("citeseer", 3327, 4552, 3703, 6)],
)
def test_published_sizes(
    datasets_folder: Path,
    graph: Any,
    nodes: int,
    edges: int,
    features: int,
    classes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    splits = Planetoid(PlanetoidConfig(graph=graph)).splits()
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(len(splits.train)))
    assert batch["features"].shape == (nodes, features)
    assert batch["edge_index"].shape == (2, 2 * edges)
    assert batch["labels"].bincount().tolist() == [20] * classes
    parts = [nodes_of(part) for part in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in parts] == [20 * classes, 500, 1000]
    assert len({node for part in parts for node in part}) == 20 * classes + 1500


def test_published_files_read_as_pickle_reads_them(datasets_folder: Path) -> None:
    """The standard library's loader, which these files may be trusted with, gives the same numbers."""
    scipy_sparse = pytest.importorskip("scipy.sparse")
    for part in ("x", "ty"):
        path = datasets_folder / "graphs" / "planetoid" / f"ind.citeseer.{part}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = pickle.loads(path.read_bytes(), encoding="latin1")  # noqa: S301
        dense = theirs.toarray() if scipy_sparse.issparse(theirs) else theirs
        assert np.array_equal(read_planetoid_part(path), dense)
