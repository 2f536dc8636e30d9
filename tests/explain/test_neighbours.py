"""Nearest neighbours against a loop."""

import math

import pytest
import torch

from layerwise.explain.neighbours import nearest


def test_neighbours_are_those_of_the_largest_cosine() -> None:
    torch.manual_seed(0)
    queries, examples = torch.randn(4, 6), torch.randn(9, 6)
    examples[7] = examples[2] * 3  # the same direction: of equals the first
    places, cosines = nearest(queries, examples, 5)
    for query, found, values in zip(queries.tolist(), places.tolist(), cosines.tolist(), strict=True):
        wanted = []
        for place, example in enumerate(examples.tolist()):
            product = sum(a * b for a, b in zip(query, example, strict=True))
            lengths = math.hypot(*query) * math.hypot(*example)
            wanted.append((-round(product / lengths, 6), place))
        wanted = sorted(wanted)[:5]
        assert sorted(found) == sorted(place for _, place in wanted)
        assert values == pytest.approx([-value for value, _ in wanted], abs=1e-5)


def test_few_examples_are_all_neighbours_and_equals_keep_their_order() -> None:
    places, cosines = nearest(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), 5)
    assert places.tolist() == [[1, 2, 0]]
    assert cosines.tolist() == [[1.0, 1.0, 0.0]]
