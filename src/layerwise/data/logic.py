"""Truth tables: the Boolean functions that the first neurons computed and the first networks learned.

Symmetry, parity and the encoder are problems of D. Rumelhart, G. Hinton, R. Williams, "Learning internal
representations by error propagation", in Parallel Distributed Processing, volume 1, chapter 8, 1986.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.source import DataConfig

Function = Literal["and", "or", "not", "xor", "parity", "symmetry", "encoder"]
_USUAL_INPUTS: dict[str, int] = {
    "and": 2, "or": 2, "not": 1, "xor": 2, "parity": 4, "symmetry": 6, "encoder": 8,
}  # fmt: skip
_MOST_INPUTS = 16


@dataclass(frozen=True, kw_only=True)
class LogicConfig(DataConfig):
    """Options of truth tables.

    Args:
        function: of all inputs: `and`, `or`; `not` of the one input; `xor` and `parity`, 1 where the number of ones is
            odd; `symmetry`, 1 where the pattern reads the same from both ends; `encoder`, the identity on patterns with
            a single one.
        num_inputs: None takes 1 for `not`, 2 for `and`, `or`, `xor`, 4 for parity, 6 for symmetry, 8 for the encoder.
    """

    function: Function = "xor"
    num_inputs: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.function == "not" and self.num_inputs not in (None, 1):
            raise ConfigError(f"num_inputs={self.num_inputs}: function=not has one input.")
        if self.num_inputs is not None and self.num_inputs > _MOST_INPUTS:
            raise ConfigError(f"num_inputs={self.num_inputs}: at most {_MOST_INPUTS}; the table has 2^num_inputs rows.")


class Logic:
    """`features` float32 [N, F] of zeros and ones, `target` float32 [N, K] of zeros and ones.

    Rows are in counting order, the first input the highest digit; N is 2^F, for the encoder F. All three parts are the
    whole table: it has no rows that could be held back.
    """

    def __init__(self, config: LogicConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """The table."""
        count = self.config.num_inputs or _USUAL_INPUTS[self.config.function]
        if self.config.function == "encoder":
            features = target = torch.eye(count)
        else:
            numbers = torch.arange(2**count)
            bits = (numbers[:, None] >> torch.arange(count).flip(0)) & 1
            features, target = bits.float(), _compute(self.config.function, bits)[:, None].float()
        table = TensorExamples({"features": features, "target": target})
        facts = {"in_features": count, "num_outputs": target.shape[1]}
        return Splits(train=table, val=table, test=table, facts=facts)


def _compute(function: str, bits: Tensor) -> Tensor:
    """The function of every row of bits [N, F]."""
    if function == "and":
        return bits.amin(1)
    if function == "or":
        return bits.amax(1)
    if function == "not":
        return 1 - bits[:, 0]
    if function == "symmetry":
        return (bits == bits.flip(1)).all(1)
    return bits.sum(1) % 2


DATASETS = {"logic": LogicConfig()}
