"""Points on two sides of a random plane, none nearer to it than a margin: what a perceptron is promised to learn.

A point is a hash of (seed, its number), so that it does not depend on how many others there are.

Shapes: N points, D dimensions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from layerwise.core.config import NonNegativeInt, PositiveFloat, PositiveInt
from layerwise.core.errors import DataError
from layerwise.core.seeding import derive_seed
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.source import DataConfig
from layerwise.ops.random import Draws

_LARGEST_OFFSET = 0.3  # of the plane from the middle of the unit ball
_TEST_STARTS = 1_000_000_000  # numbers of test points


@dataclass(frozen=True, kw_only=True)
class SeparableConfig(DataConfig):
    """Options of separable points.

    Args:
        train_size, test_size: points of each part.
        num_features: dimensions.
        margin: smallest distance of a point from the plane; points are uniform in the unit ball, then moved away from
            the plane by this much.
        seed: of the plane and the points.
    """

    train_size: PositiveInt = 100
    test_size: PositiveInt = 1000
    num_features: PositiveInt = 2
    margin: PositiveFloat = 0.1
    seed: NonNegativeInt = 0


class Separable:
    """`features` float32 [N, D], `target` float32 [N, 1]: 1 on the side that the plane's normal points to, else 0.

    Validation data are the training points themselves: a perceptron has learned when all of them are right, and there
    is nothing else to select by. Test points are others, on the same sides of the same plane.

    `extras["separator"]` is the plane `w.x + b = 0`: `weight` [D], of length 1, and `bias`.
    """

    def __init__(self, config: SeparableConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Draw the points.

        Raises:
            DataError: all training points happen to lie on one side.
        """
        config = self.config
        weight, bias = self._plane()
        train = self._points(torch.arange(config.train_size), weight, bias)
        test = self._points(_TEST_STARTS + torch.arange(config.test_size), weight, bias)
        if len(train.columns["target"].unique()) < 2:
            raise DataError(
                f"separable: all {config.train_size} training points are on one side of the plane. Take another "
                "data.seed or a larger data.train_size."
            )
        facts = {"in_features": config.num_features, "num_outputs": 1}
        extras = {"separator": {"weight": weight.tolist(), "bias": bias}}
        return Splits(train=train, val=train, test=test, facts=facts, extras=extras)

    def _plane(self) -> tuple[Tensor, float]:
        """Unit normal, float64 [D], and bias."""
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "plane"))
        normal = torch.randn(self.config.num_features, generator=generator, dtype=torch.float64)
        place = torch.rand((), generator=generator, dtype=torch.float64)
        return normal / normal.norm(), _LARGEST_OFFSET * float(2 * place - 1)

    def _points(self, ids: Tensor, weight: Tensor, bias: float) -> TensorExamples:
        draws, size = Draws(self.config.seed, "separable"), self.config.num_features
        direction = draws.normal(ids, (size,), "direction", torch.float64)
        radius = draws.uniform(ids, (1,), "radius", torch.float64) ** (1 / size)
        inside = radius * direction / direction.norm(dim=1, keepdim=True)
        side = torch.where(inside @ weight + bias >= 0, 1.0, -1.0).double()[:, None]
        features = inside + side * self.config.margin * weight
        return TensorExamples({"features": features.float(), "target": (side > 0).float()}, sample_ids=ids)


DATASETS = {"separable": SeparableConfig()}
