"""The adding problem: two of many numbers are marked; their sum is asked for at the end.

S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9, 1997, experiment 4, in the form of Q. Le,
N. Jaitly, G. Hinton, "A simple way to initialize recurrent networks of rectified linear units", 2015,
https://arxiv.org/abs/1504.00941, section 4.1: numbers are uniform in [0, 1), lengths are fixed, one mark stands in each
half. Who answers 1 always has a mean squared error of 1/6.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from layerwise.core.config import NonNegativeInt, PositiveInt, Range
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.source import DataConfig
from layerwise.ops.random import Draws

_VAL_STARTS, _TEST_STARTS = 1 << 40, 2 << 40  # sample ids: beyond every training example


@dataclass(frozen=True, kw_only=True)
class AddingProblemConfig(DataConfig):
    """Options of the adding problem.

    Args:
        seq_len: steps of a sequence; even, so that it has two halves.
        train_size, val_size, test_size: sequences of each part.
        seed: of the numbers and marks; a sequence depends on it and its own id alone.
    """

    seq_len: Annotated[int, Range(2)] = 200
    train_size: PositiveInt = 20_000
    val_size: PositiveInt = 1_000
    test_size: PositiveInt = 2_000
    seed: NonNegativeInt = 0


class AddingProblem:
    """`features` float32 [N, T, 2]: a number in [0, 1), and 1 where it is marked; `target` float32 [N]: the sum of the
    two marked ones.
    """

    def __init__(self, config: AddingProblemConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Draw the sequences."""
        config = self.config
        return Splits(
            train=self._sequences(torch.arange(config.train_size)),
            val=self._sequences(_VAL_STARTS + torch.arange(config.val_size)),
            test=self._sequences(_TEST_STARTS + torch.arange(config.test_size)),
            facts={"in_features": 2, "num_outputs": 1},
            extras={"targets": ["sum"]},
        )

    def _sequences(self, ids: Tensor) -> TensorExamples:
        draws, length = Draws(self.config.seed, "adding"), self.config.seq_len
        half = length // 2
        numbers = draws.uniform(ids, (length,), "numbers")
        first = draws.integers(ids, (1,), "first", half)
        second = half + draws.integers(ids, (1,), "second", length - half)
        places = torch.cat([first, second], dim=1)
        marks = torch.zeros_like(numbers).scatter_(1, places, 1.0)
        target = numbers.gather(1, places).sum(1)
        return TensorExamples({"features": torch.stack([numbers, marks], dim=2), "target": target}, sample_ids=ids)


DATASETS = {"adding_problem": AddingProblemConfig()}
