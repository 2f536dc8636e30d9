"""Biases by distance: the papers' own examples, transformers' buckets."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.ops.position_bias import alibi_bias, alibi_slopes, clipped_distances, key_distances, relative_buckets


def test_alibi_slopes_are_those_of_the_paper() -> None:
    assert alibi_slopes(8) == [1 / 2**i for i in range(1, 9)]  # section 3: "1/2^1, 1/2^2, ..., 1/2^8"
    assert alibi_slopes(16)[:2] == pytest.approx([2**-0.5, 2**-1])  # "1/2^0.5, 1/2^1, ..."
    # The reference code's rule for twelve: those of eight, then every second of sixteen.
    assert alibi_slopes(12) == pytest.approx(
        [*(2.0**-i for i in range(1, 9)), *(2.0**-i for i in (0.5, 1.5, 2.5, 3.5))]
    )


def test_alibi_grows_with_the_distance_also_behind_a_cache() -> None:
    bias = alibi_bias(2, 2, 4)
    assert bias[1].tolist() == [[-2 / 256, -1 / 256, 0, -1 / 256], [-3 / 256, -2 / 256, -1 / 256, 0]]


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (16, 20), (8, 100), (64, 1000)])
def test_buckets_equal_those_of_transformers(both: bool, num_buckets: int, max_distance: int) -> None:
    pytest.importorskip("transformers")
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-1500, 1501)[None]
    wanted = T5Attention._relative_position_bucket(distance, both, num_buckets, max_distance)
    got = relative_buckets(distance, num_buckets, max_distance, both=both)
    assert torch.equal(got, wanted)


def test_shaw_s_distances_are_clipped() -> None:
    assert clipped_distances(key_distances(1, 5), 2).tolist() == [[0, 0, 0, 1, 2]]


def test_impossible_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="max_distance above the 8 nearest"):
        relative_buckets(key_distances(2, 2), 16, 8, both=False)
    with pytest.raises(ConfigError, match="an even number"):
        relative_buckets(key_distances(2, 2), 5, 8, both=True)
    with pytest.raises(ConfigError, match="num_heads=0"):
        alibi_slopes(0)
