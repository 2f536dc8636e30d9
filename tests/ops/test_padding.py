"""Tokens as rows, and back."""

import torch

from layerwise.ops.padding import TokenRows

MASK = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])


def test_rows_are_the_tokens_in_order_and_come_back_to_their_places() -> None:
    x = torch.arange(18.0).view(3, 3, 2)
    rows = TokenRows.of(MASK)
    assert torch.equal(rows.gather(x), torch.stack([x[0, 0], x[0, 1], x[1, 0], *x[2]]))
    assert torch.equal(rows.spread(rows.gather(x)), x * MASK[..., None])
    assert rows.gather(torch.arange(9).view(3, 3)).tolist() == [0, 1, 3, 6, 7, 8]


def test_without_padding_nothing_is_moved() -> None:
    x = torch.randn(2, 3, 4)
    for rows in (TokenRows.full(2, 3), TokenRows.of(torch.ones(2, 3, dtype=torch.bool))):
        assert rows.attend is None
        assert rows.gather(x).data_ptr() == x.data_ptr()
        assert torch.equal(rows.spread(rows.gather(x)), x)


def test_gradients_are_those_of_the_tokens() -> None:
    x = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    rows = TokenRows.of(MASK)
    assert torch.autograd.gradcheck(lambda x: rows.spread(rows.gather(x) ** 2), (x,))


def test_the_mean_leaves_padding_out() -> None:
    x = torch.tensor([[[1.0], [3.0], [50.0]], [[2.0], [9.0], [9.0]]])
    rows = TokenRows.of(torch.tensor([[True, True, False], [True, False, False]]))
    assert rows.means(rows.gather(x)).tolist() == [[2.0], [2.0]]
    assert rows.firsts(rows.gather(x)).tolist() == [[1.0], [2.0]]


def test_packed_texts_have_their_lengths_firsts_and_means() -> None:
    rows = TokenRows.packed(torch.tensor([[0, 0, 1, -1], [3, 3, 3, 4]]))
    assert rows.lengths == (2, 1, 3, 1)
    x = torch.tensor([[[1.0], [3.0], [5.0], [99.0]], [[2.0], [4.0], [9.0], [7.0]]])
    inside = rows.gather(x)
    assert inside.flatten().tolist() == [1.0, 3.0, 5.0, 2.0, 4.0, 9.0, 7.0]
    assert rows.firsts(inside).flatten().tolist() == [1.0, 5.0, 2.0, 7.0]
    assert rows.means(inside).flatten().tolist() == [2.0, 5.0, 5.0, 7.0]
    assert rows.spread(inside)[0, 3].tolist() == [0.0]
