"""Rotations against complex numbers, and what the paper promises of them."""

import math

import pytest
import torch

from layerwise.ops.rope import plain_frequencies, rotate, rotation_table


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_pair_is_turned_as_a_complex_number(interleaved: bool) -> None:
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    frequencies = plain_frequencies(6, 100.0)
    cos, sin = rotation_table(frequencies, torch.arange(5))
    turned = rotate(x, cos, sin, interleaved=interleaved)
    for pair in range(3):
        at = (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + 3)
        assert frequencies[pair] == pytest.approx(100.0 ** (-2 * pair / 6), rel=1e-12)
        for t in range(5):
            wanted = torch.complex(x[..., t, at[0]], x[..., t, at[1]]) * complex(
                math.cos(t * frequencies[pair]), math.sin(t * frequencies[pair])
            )
            got = torch.complex(turned[..., t, at[0]], turned[..., t, at[1]])
            torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)  # tables are float32


def test_scores_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(1, 1, 1, 8, dtype=torch.float64), torch.randn(1, 1, 1, 8, dtype=torch.float64)
    scores = [
        float(
            (
                rotate(q, *rotation_table(plain_frequencies(8, 1e4), torch.tensor([start + 3])))
                * rotate(k, *rotation_table(plain_frequencies(8, 1e4), torch.tensor([start])))
            ).sum()
        )
        for start in (0, 5, 1000)
    ]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-5)  # tables are float32


def test_rows_may_have_positions_of_their_own_and_the_rest_of_a_head_stays() -> None:
    x = torch.randn(2, 3, 4, 8)
    positions = torch.tensor([[0, 1, 2, 3], [0, 1, 0, 1]])
    cos, sin = rotation_table(plain_frequencies(4, 1e4), positions)
    turned = rotate(x, cos, sin)
    assert torch.equal(turned[..., 4:], x[..., 4:])
    assert torch.equal(turned[1, :, 2:], rotate(x[1:, :, 2:], cos[1, :2], sin[1, :2])[0])
    assert rotate(x.bfloat16(), cos, sin).dtype == torch.bfloat16
