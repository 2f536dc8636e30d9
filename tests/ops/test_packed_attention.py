"""Attention of packed documents against attention of each document alone, and against one dense mask."""

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.ops.attention import plain_attention
from layerwise.ops.packed_attention import document_lengths, document_positions, packed_attention
from layerwise.ops.position_bias import alibi_bias

# Two rows of seven tokens; document 4 ends with the first row although the second begins with the same number.
DOCUMENTS = torch.tensor([[0, 0, 0, 2, 2, 4, 4], [4, 4, 4, 4, 5, 1, 1]])


def inputs(seed: int = 0, heads: int = 4, groups: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, count, 7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        for count in (heads, groups, groups)
    ]


def dense_mask() -> Tensor:
    return (DOCUMENTS[:, None, :, None] == DOCUMENTS[:, None, None, :]).expand(2, 1, 7, 7)


def test_lengths_and_positions_restart_with_each_document_and_row() -> None:
    assert document_lengths(DOCUMENTS) == [3, 2, 2, 4, 1, 2]
    assert document_positions(DOCUMENTS).tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 0, 0, 1]]
    assert document_lengths(torch.tensor([[-1]])) == [1]


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 2}, {"causal": True, "window": 2, "scale": 0.3}])
def test_result_and_gradients_equal_those_of_one_dense_mask(options: dict[str, object]) -> None:
    results: list[list[Tensor]] = []
    for packed in (True, False):
        q, k, v = inputs()
        if packed:
            out = packed_attention(q, k, v, document_lengths(DOCUMENTS), **options)  # pyright: ignore[reportArgumentType]
        else:
            out, _ = plain_attention(q, k, v, mask=dense_mask(), **options)  # pyright: ignore[reportArgumentType]
        weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        results.append([out, *torch.autograd.grad((out * weight).sum(), (q, k, v))])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-10, rtol=0)


def test_a_bias_is_that_of_each_document_s_first_positions() -> None:
    q, k, v = inputs(groups=4)
    bias = alibi_bias(4, 5, 5, dtype=torch.float64)
    out = packed_attention(q, k, v, document_lengths(DOCUMENTS), bias=bias, causal=True)
    # The whole row's bias will do as well: it depends on distances alone.
    whole, _ = plain_attention(q, k, v, mask=dense_mask(), bias=alibi_bias(4, 7, 7, dtype=torch.float64), causal=True)
    torch.testing.assert_close(out, whole, atol=1e-10, rtol=0)


def test_gradients_are_right_by_finite_differences() -> None:
    lengths = document_lengths(DOCUMENTS)
    assert torch.autograd.gradcheck(lambda q, k, v: packed_attention(q, k, v, lengths, causal=True), inputs())


def test_a_long_pack_builds_no_mask_of_its_length() -> None:
    """A dense mask of 200,000 tokens would be 40 GB."""
    x = torch.randn(1, 1, 200_000, 2)
    lengths = [100] * 2_000
    out = packed_attention(x, x, x, lengths, causal=True)
    torch.testing.assert_close(
        out[:, :, 1000], plain_attention(x[:, :, 1000:1001], *[x[:, :, 1000:1001]] * 2)[0][:, :, 0]
    )


def test_wrong_lengths_and_a_bias_too_small_are_named() -> None:
    q, k, v = inputs(groups=4)
    with pytest.raises(ConfigError, match="13 tokens, the 2 rows of 7 14"):
        packed_attention(q, k, v, [6, 7])
    with pytest.raises(ConfigError, match="does not reach over a document of 7 tokens"):
        packed_attention(q, k, v, [7, 7], bias=alibi_bias(4, 5, 5))
