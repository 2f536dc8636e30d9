"""Citation graphs in the Planetoid split: Cora and Citeseer.

Source: Z. Yang, W. Cohen, R. Salakhutdinov, "Revisiting Semi-Supervised Learning with Graph Embeddings", ICML 2016,
https://arxiv.org/abs/1603.08861; files `ind.NAME.{x,tx,allx,y,ty,ally,graph,test.index}` of
https://github.com/kimiyoung/planetoid.

The files are Python 2 pickles, and a pickle can run any code when it is read. This package reads no pickles; these
published files are the one exception, and `pickle.load` never sees them: `_PlanetoidUnpickler` knows the six names that
they hold and no others. `list` and `defaultdict` are themselves, and numpy's and scipy's names stand for records that
only keep what they are given; the arrays are then made from those records' bytes by the code below. No name resolves to
a function that acts, so there is nothing for a forged file to call; anything else in it is an error.

Shapes: N nodes, E directed edges, F features, K classes, B nodes of a split.
"""

import hashlib
import pickle
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Batch, Examples, Splits
from layerwise.data.source import DataConfig

_VALIDATION = 500  # nodes after the training nodes, as in Yang et al. and Kipf and Welling
_KINDS = {"f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"}  # numpy type codes that may occur
_ADDRESS = "https://raw.githubusercontent.com/kimiyoung/planetoid/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data/"
# graph -> part -> SHA-256 and size in bytes
_FILES = {
    "cora": {
        "x": ("23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab", 22119),
        "y": ("94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1", 4054),
        "tx": ("b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a", 148025),
        "ty": ("41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad", 28135),
        "allx": ("9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543", 257305),
        "ally": ("2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71", 47959),
        "graph": ("58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d", 59847),
        "test.index": ("297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875", 5000),
    },
    "citeseer": {
        "x": ("d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6", 31087),
        "y": ("8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924", 3014),
        "tx": ("539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21", 260321),
        "ty": ("55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce", 24135),
        "allx": ("2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668", 595021),
        "ally": ("f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95", 55623),
        "graph": ("d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7", 61987),
        "test.index": ("2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4", 5000),
    },
}


@dataclass(frozen=True, kw_only=True)
class PlanetoidConfig(DataConfig):
    """Options of the Planetoid graphs.

    Args:
        graph: which graph.
        row_normalise: divide each node's features by their sum.
    """

    graph: Literal["cora", "citeseer"] = "cora"
    row_normalise: bool = True


class _Record:
    """Keeps what a pickle builds it from; does nothing."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Record):
    """numpy.ndarray: state is (version, shape, dtype, Fortran order, bytes)."""

    def array(self) -> np.ndarray:
        _, shape, kind, fortran, content = self.state
        if not isinstance(kind, _Kind) or kind.args[0] not in _KINDS or not isinstance(content, str):
            raise ValueError("an array is not of plain numbers")
        dtype = np.dtype(kind.args[0]).newbyteorder("<" if kind.state[1] in ("<", "|") else ">")
        return np.frombuffer(content.encode("latin1"), dtype).reshape(shape, order="F" if fortran else "C")


class _Kind(_Record):
    """numpy.dtype: the first argument is the type code, the second part of the state the byte order."""


class _Matrix(_Record):
    """scipy.sparse.csr_matrix: state is the dictionary of its attributes."""

    def dense(self) -> np.ndarray:
        data, columns, offsets = (self.state[name].array() for name in ("data", "indices", "indptr"))
        made = np.zeros(self.state["_shape"], np.float32)
        np.add.at(made, (np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), columns), data)
        return made


class _PlanetoidUnpickler(pickle.Unpickler):
    """Resolves the names that Planetoid files hold, to harmless stand-ins."""

    known: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Kind,
        ("scipy.sparse.csr", "csr_matrix"): _Matrix,
        ("__builtin__", "list"): list,
        ("collections", "defaultdict"): defaultdict,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.known[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no Planetoid file does") from None


def read_planetoid_part(path: Path) -> Any:
    """One file of the data set: a float32 or integer array, or the dictionary node -> neighbours.

    Raises:
        DataError: the file is damaged, or holds anything but numbers, lists and dictionaries.
    """
    try:
        with path.open("rb") as file:
            found = _PlanetoidUnpickler(file, encoding="latin1").load()
        return found.dense() if isinstance(found, _Matrix) else found.array() if isinstance(found, _Array) else found
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
    ) as error:
        raise DataError(f"{path}: not a Planetoid file, or damaged: {error}.") from error


def _read_index(path: Path) -> np.ndarray:
    """Numbers of the test nodes, one a line, in the order of their features' rows."""
    try:
        return np.array([int(line) for line in path.read_text(encoding="ascii").split()], np.int64)
    except ValueError as error:
        raise DataError(f"{path}: not a list of node numbers: {error}.") from error


class NodeExamples(Examples):
    """Some nodes of one graph; every batch holds the whole graph, since a node's output depends on its neighbours.

    Args:
        features: float32 [N, F].
        edge_index: int64 [2, E].
        node_labels: int64 [N].
        nodes: int64 [B], the split's nodes; they are the sample ids.

    Collated: `features`, `edge_index` (the same tensors every time), `nodes`, `labels` and `sample_ids` of the nodes
    asked for.
    """

    def __init__(self, features: Tensor, edge_index: Tensor, node_labels: Tensor, nodes: Tensor) -> None:
        self.features, self.edge_index, self.node_labels, self.nodes = features, edge_index, node_labels, nodes

    def __len__(self) -> int:
        return len(self.nodes)

    def collate(self, indices: Tensor) -> Batch:
        nodes = self.nodes.index_select(0, indices)
        labels = self.node_labels.index_select(0, nodes)
        return {
            "features": self.features,
            "edge_index": self.edge_index,
            "nodes": nodes,
            "labels": labels,
            "sample_ids": nodes,
        }

    def labels(self) -> Tensor:
        return self.node_labels.index_select(0, self.nodes)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for part in (self.features, self.edge_index, self.node_labels, self.nodes):
            digest.update(f"{tuple(part.shape)}{part.dtype}".encode() + part.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


class Planetoid:
    """Cora (2,708 nodes, 5,278 edges, 1,433 features, 7 classes) and Citeseer (3,327, 4,552, 3,703, 6), transductive.

    Twenty training nodes a class, the next 500 for validation, 1,000 for test. Fifteen nodes of Citeseer have neither
    features nor edges and are in no split; their rows are zero.
    """

    def __init__(self, config: PlanetoidConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        name = self.config.graph
        files = {
            part: RemoteFile(f"graphs/planetoid/ind.{name}.{part}", f"{_ADDRESS}ind.{name}.{part}", sha256, size)
            for part, (sha256, size) in _FILES[name].items()
        }
        found = locate(name, list(files.values()), self.config.root)
        paths = {part: found[file.path] for part, file in files.items()}
        test_order = _read_index(paths.pop("test.index"))
        parts = {part: read_planetoid_part(path) for part, path in paths.items()}
        features, labels = (
            _assemble(parts["allx"], parts["tx"], test_order),
            _assemble(parts["ally"], parts["ty"], test_order),
        )
        if self.config.row_normalise:
            features /= np.maximum(features.sum(1, keepdims=True), 1e-12)
        edges = np.array([(a, b) for a, near in parts["graph"].items() for b in near if a != b], np.int64).T
        edges = np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)  # both directions, once each
        if edges.min() < 0 or edges.max() >= len(features):
            raise DataError(f"{paths['graph']}: edges name nodes beyond the {len(features)} of {name}.")
        graph = (torch.from_numpy(features), torch.from_numpy(edges), torch.from_numpy(labels.argmax(1)))
        count = len(parts["y"])
        chosen = (torch.arange(count), torch.arange(count, count + _VALIDATION), torch.from_numpy(np.sort(test_order)))
        train, val, test = (NodeExamples(*graph, nodes) for nodes in chosen)
        facts = {"in_features": features.shape[1], "num_classes": labels.shape[1], "sparse_features": True}
        return Splits(train=train, val=val, test=test, facts=facts)


def _assemble(known: np.ndarray, tests: np.ndarray, test_order: np.ndarray) -> np.ndarray:
    """Rows of all nodes: the first file's, then each test row at its own number; numbers left out are rows of zeros."""
    rows = np.zeros((max(len(known), int(test_order.max()) + 1), known.shape[1]), known.dtype)
    rows[: len(known)] = known
    rows[test_order] = tests
    return rows


DATASETS = {
    "cora": PlanetoidConfig(graph="cora"),
    "citeseer": PlanetoidConfig(graph="citeseer"),
}
