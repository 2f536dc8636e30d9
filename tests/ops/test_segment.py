"""Sparse rows against dense float64 matrices; equality up to float64 rounding, 1e-12."""

import gc
import weakref

import pytest
import torch
from torch import Tensor

from layerwise.ops.segment import (
    SparseRows,
    derived,
    sparse_matmul,
    sparse_rows,
    sparse_rows_of,
    symmetric_normalisation,
)


def entries(shape: tuple[int, int], count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random places (some twice, some rows empty) and float64 values."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, max(1, shape[0] - 2), (count,), generator=generator)
    columns = torch.randint(0, shape[1], (count,), generator=generator)
    rows, columns = torch.cat([rows, rows[:3]]), torch.cat([columns, columns[:3]])
    return rows, columns, torch.randn(len(rows), generator=generator, dtype=torch.float64)


def dense_of(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    dense = torch.zeros(shape, dtype=torch.float64)
    for r, c, v in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True):
        dense[r, c] += v
    return dense


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (1, 4), (9, 9)])
def test_product_and_its_gradient_are_the_dense_ones(shape: tuple[int, int]) -> None:
    places = entries(shape, 12)
    matrix, dense = sparse_rows(*places, shape), dense_of(*places, shape)
    x = torch.randn(shape[1], 3, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(shape[0], 3, dtype=torch.float64)
    (sparse_matmul(matrix, x) * weight).sum().backward()
    (dense @ y * weight).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    torch.testing.assert_close(sparse_matmul(matrix, x), dense @ y, rtol=0, atol=1e-12)
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-12)


def test_gradients_of_gradients_are_right() -> None:
    matrix = sparse_rows(*entries((4, 4), 6), (4, 4))
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: sparse_matmul(matrix, x.square()), (x,))


def test_sparse_rows_of_a_dense_matrix_hold_its_nonzero_entries() -> None:
    dense = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    matrix = sparse_rows_of(dense)
    assert matrix.shape == (3, 3)
    assert matrix.offsets.tolist() == [0, 1, 1, 3]
    assert matrix.columns.tolist() == [1, 0, 2]
    assert matrix.values.tolist() == [2.0, 3.0, 4.0]
    assert torch.equal(sparse_matmul(matrix, torch.eye(3)), dense)


def test_entries_in_any_order_give_the_same_bits() -> None:
    rows, columns, values = entries((8, 8), 30)
    keep = torch.from_numpy(__import__("numpy").unique((rows * 8 + columns).numpy(), return_index=True)[1])
    rows, columns, values = rows[keep], columns[keep], values[keep].float()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    x = torch.randn(8, 16)
    first = sparse_matmul(sparse_rows(rows, columns, values, (8, 8)), x)
    assert torch.equal(first, sparse_matmul(sparse_rows(rows[order], columns[order], values[order], (8, 8)), x))


def test_product_has_the_same_bits_on_one_and_two_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.randint(0, 500, (2, 5000), generator=generator)
    matrix = sparse_rows(rows, columns, torch.randn(5000, generator=generator), (500, 500))
    x = torch.randn(500, 16, generator=generator)
    torch.set_num_threads(1)
    one = sparse_matmul(matrix, x)
    torch.set_num_threads(2)
    assert torch.equal(one, sparse_matmul(matrix, x))


def test_normalisation_is_the_formula_of_the_paper() -> None:
    # Edges 0-1, 0-2, 1-2 in both directions, 3 alone, and a loop that must not count twice.
    edges = torch.tensor([[0, 1, 0, 2, 1, 2, 2], [1, 0, 2, 0, 2, 1, 2]])
    adjacency = torch.zeros(4, 4, dtype=torch.float64)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        adjacency[a, b] = adjacency[b, a] = 1
    adjacency += torch.eye(4, dtype=torch.float64)
    degree = adjacency.sum(1)
    wanted = adjacency / torch.sqrt(degree[:, None] * degree[None, :])
    matrix = symmetric_normalisation(edges, 4, torch.float64)
    got = sparse_matmul(matrix, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_a_directed_edge_carries_from_source_to_target() -> None:
    matrix = symmetric_normalisation(torch.tensor([[0], [1]]), 2, torch.float64)
    got = sparse_matmul(matrix, torch.tensor([[1.0], [0.0]], dtype=torch.float64))
    # Node 1 has degree 2 (the edge and its loop), node 0 degree 1: weight 1 / sqrt(2).
    torch.testing.assert_close(got, torch.tensor([[1.0], [2**-0.5]], dtype=torch.float64), rtol=0, atol=1e-12)


def test_derived_is_built_once_for_a_tensor_and_name() -> None:
    tensor, calls = torch.zeros(3), []

    def build() -> int:
        calls.append(1)
        return len(calls)

    assert [derived(tensor, "a", build), derived(tensor, "a", build), derived(tensor, "b", build)] == [1, 1, 2]
    assert derived(tensor.clone(), "a", build) == 3


def test_derived_is_built_anew_after_a_change_in_place() -> None:
    tensor = torch.zeros(3)
    assert derived(tensor, "sum", lambda: float(tensor.sum())) == 0.0
    tensor += 1
    assert derived(tensor, "sum", lambda: float(tensor.sum())) == 3.0


def test_derived_does_not_outlive_its_tensor() -> None:
    tensor = torch.zeros(3)
    made: SparseRows = derived(tensor, "rows", lambda: sparse_rows_of(torch.eye(3)))
    watched = weakref.ref(made.values)
    del tensor, made
    gc.collect()
    assert watched() is None
