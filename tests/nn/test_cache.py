"""The memory of keys and values."""

import pytest
import torch

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.nn.cache import Cache, DecoderCache, LayerCache


def filled(batch: int = 2, length: int = 3) -> LayerCache:
    cache = LayerCache(batch, 1, 5, 1)
    numbers = torch.arange(float(batch * length)).view(batch, 1, length, 1)
    cache.append(numbers, 100 + numbers)
    return cache


def test_appended_positions_stand_behind_those_before() -> None:
    cache = filled()
    keys, values = cache.append(torch.full((2, 1, 2, 1), 7.0), torch.full((2, 1, 2, 1), 8.0))
    assert keys[1].flatten().tolist() == [3, 4, 5, 7, 7]
    assert values[1].flatten().tolist() == [103, 104, 105, 8, 8]


def test_storage_is_written_in_place() -> None:
    cache = filled()
    before = cache.keys.data_ptr()
    keys, _ = cache.append(torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1))
    assert cache.keys.data_ptr() == before == keys.data_ptr()


def test_values_may_be_wider_than_keys() -> None:
    cache = LayerCache(1, 2, 4, 3, value_dim=5)
    keys, values = cache.append(torch.ones(1, 2, 2, 3), torch.ones(1, 2, 2, 5))
    assert (keys.shape, values.shape) == ((1, 2, 2, 3), (1, 2, 2, 5))


def test_too_many_positions_are_refused_and_nothing_is_written() -> None:
    cache = filled()
    with pytest.raises(ConfigError, match="holds 5 positions, 6 are needed"):
        cache.append(torch.ones(2, 1, 3, 1), torch.ones(2, 1, 3, 1))
    assert cache.length == 3


def test_another_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch of 2, got 1"):
        filled().append(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))


def test_recorded_gradients_are_refused() -> None:
    keys = torch.ones(2, 1, 1, 1, requires_grad=True)
    with pytest.raises(UnsupportedError, match="no_grad"):
        filled().append(keys, keys)


def test_rewinding_forgets_what_came_later() -> None:
    cache = Cache([filled(), filled()])
    cache.rewind(1)
    assert cache.position == 1
    keys, _ = cache.layers[1].append(torch.full((2, 1, 1, 1), 9.0), torch.zeros(2, 1, 1, 1))
    assert keys[0].flatten().tolist() == [0, 9]
    with pytest.raises(ConfigError, match="from 0 to 1"):
        cache.rewind(2)


def test_rows_are_copied_from_the_rows_named() -> None:
    cache = Cache([filled(batch=3, length=1)])
    cache.reorder(torch.tensor([2, 0, 0]))
    keys, values = cache.layers[0].read()
    assert keys.flatten().tolist() == [2, 0, 0]
    assert values.flatten().tolist() == [102, 100, 100]


def decoder_cache(sentences: int = 3, beams: int = 2) -> DecoderCache:
    """Own keys count hypotheses, memory counts sentences."""
    layer = LayerCache(sentences * beams, 1, 4, 1)
    numbers = torch.arange(float(sentences * beams)).view(-1, 1, 1, 1)
    layer.append(numbers, numbers)
    memory = torch.arange(float(sentences)).view(-1, 1, 1, 1)
    return DecoderCache([layer], [(memory, memory)], torch.arange(4) < torch.arange(1, sentences + 1)[:, None])


def test_hypotheses_are_copied_and_sentences_stay() -> None:
    cache = decoder_cache()
    cache.reorder(torch.tensor([1, 1, 2, 2, 5, 4]))
    assert cache.layers[0].read()[0].flatten().tolist() == [1, 1, 2, 2, 5, 4]
    assert cache.memory[0][0].flatten().tolist() == [0, 1, 2]


def test_a_sentence_that_is_done_leaves_with_its_memory() -> None:
    cache = decoder_cache()
    cache.reorder(torch.tensor([1, 0, 4, 4]))
    assert cache.layers[0].read()[1].flatten().tolist() == [1, 0, 4, 4]
    assert cache.memory[0][1].flatten().tolist() == [0, 2]
    assert cache.mask is not None
    assert cache.mask.sum(1).tolist() == [1, 3]
    keys, _ = cache.layers[0].append(torch.full((4, 1, 1, 1), 9.0), torch.zeros(4, 1, 1, 1))
    assert keys[2].flatten().tolist() == [4, 9]


def test_part_of_a_sentence_s_hypotheses_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 hypotheses of each sentence"):
        decoder_cache().reorder(torch.tensor([0, 1, 2]))
