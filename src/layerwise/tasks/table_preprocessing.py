"""From a table's raw numbers and categories to what a network takes, measured on the training rows alone.

Numbers, in one of three ways:

- `standard`: `(x - mean) / std`.
- `quantile`: to a normal distribution by the training rows' quantiles, as Gorishniy et al. prepare tables (2021; with
  scikit-learn's `QuantileTransformer`, and without the noise that they add before).
- `piecewise_linear`: each number becomes one component a bin, 0 below the bin, 1 above it, linear inside (Gorishniy et
  al. 2022, section 3.2), so that a linear layer after it is a piecewise linear function of the number. Numbers beyond
  the training range are taken as its ends, where the paper goes on linearly: one absurd cell cannot dominate a row.
  Bins hold equally many rows, but a value common enough to fill a bin alone has an edge of its own, and the others
  share the rest: a column that is mostly zero keeps its bins for what is not.

A missing number becomes 0 (the mean, the median, or no component), and columns that lacked values in training have an
indicator (1 = missing) beside the numbers. Categories become indices: 0 missing, 1 unseen or rare in training, 2.. the
others.

Papers: Y. Gorishniy, I. Rubachev, V. Khrulkov, A. Babenko, "Revisiting deep learning models for tabular data", NeurIPS
2021, https://arxiv.org/abs/2106.11959. Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in
tabular deep learning", NeurIPS 2022, https://arxiv.org/abs/2203.05556.

Shapes: B batch, F raw numbers, G category columns, Q quantiles, E components of all columns.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from layerwise.data.examples import Examples

Numbers = Literal["standard", "quantile", "piecewise_linear"]

_MISSING, _UNSEEN, _FIRST_KNOWN = 0, 1, 2
_ROWS_A_QUANTILE, _FEWEST_QUANTILES, _MOST_QUANTILES = 30, 10, 1000  # as in the code of Gorishniy et al.
_ROWS_A_BIN, _FEWEST_BINS = 16, 4  # a bin of fewer rows learns their noise
_BOUND = 1e-7  # probability at which the normal distribution's ends are cut, as in scikit-learn


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What the training rows tell. Plain values: it travels with the weights as JSON.

    Args:
        numbers: how they are prepared.
        mean, std: one a numeric column; std is 1 where the column is constant.
        knots: per numeric column its quantiles (`quantile`, all of one length) or the edges of its bins
            (`piecewise_linear`); empty for `standard`.
        indicated: numeric columns that lacked values in training.
        lookup: per category column, raw index -> model's index; the last entry is for values that the schema does not
            know.
        gaps: category columns that lacked values in training.
    """

    numbers: Numbers = "standard"
    mean: list[float]
    std: list[float]
    knots: list[list[float]]
    indicated: list[int]
    lookup: list[list[int]]
    gaps: list[int]

    @property
    def category_sizes(self) -> tuple[int, ...]:
        """Indices a category column has."""
        return tuple(max(1, *table) + 1 for table in self.lookup)

    @property
    def origins(self) -> list[int]:
        """The raw column behind each number that the network gets."""
        bins = [max(0, len(edges) - 1) for edges in self.knots] if self.numbers == "piecewise_linear" else None
        own = [column for column in range(len(self.mean)) for _ in range(1 if bins is None else bins[column])]
        return [*own, *self.indicated]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# ----------------------------------------------------------------------------------------------- numbers, three ways


class Standard(nn.Module):
    """`(x - mean) / std`, 0 where missing.

    Shape:
        float [B, F] -> float32 [B, F].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(statistics.std, dtype=torch.float32), persistent=False)

    def forward(self, numeric: Tensor) -> Tensor:
        return torch.nan_to_num((numeric.to(torch.float32) - self.mean) / self.std, nan=0.0)


class Quantile(nn.Module):
    """`Phi^-1(F(x))` with F the training rows' distribution function, linear between quantiles, the mean of both ends
    where several quantiles are equal; 0 where missing.

    Shape:
        float [B, F] -> float32 [B, F].
    """

    knots: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        knots = torch.tensor(statistics.knots, dtype=torch.float64).view(len(statistics.knots), -1)
        self.register_buffer("knots", knots, persistent=False)

    def forward(self, numeric: Tensor) -> Tensor:
        x, last = numeric.double().t().contiguous(), self.knots.shape[1] - 1
        below = (torch.searchsorted(self.knots, x, right=True) - 1).clamp(0, last)  # the last knot that is <= x
        above = torch.searchsorted(self.knots, x).clamp(0, last)  # the first knot that is >= x
        low, high = self.knots.gather(1, below), self.knots.gather(1, above)
        share = torch.where(high > low, (x - low) / torch.where(high > low, high - low, 1.0), 0.5)
        level = (below + share * (above - below)) / last
        level = torch.where(x + _BOUND > self.knots[:, -1:], 1.0, level)
        level = torch.where(x - _BOUND < self.knots[:, :1], 0.0, level)
        normal = torch.special.ndtri(level.clamp(_BOUND, 1 - _BOUND))
        return torch.where(x.isnan(), 0.0, normal).t().to(torch.float32)


class PiecewiseLinear(nn.Module):
    """`min(1, max(0, (x - b_{t-1}) / (b_t - b_{t-1})))` for every bin t of every column; 0 where missing.

    Shape:
        float [B, F] -> float32 [B, E].
    """

    column: Tensor
    start: Tensor
    width: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        bins = [
            (column, low, high - low) for column, edges in enumerate(statistics.knots) for low, high in pairwise(edges)
        ]
        for place, name in enumerate(("column", "start", "width")):
            dtype = torch.int64 if name == "column" else torch.float32
            self.register_buffer(name, torch.tensor([row[place] for row in bins], dtype=dtype), persistent=False)

    def forward(self, numeric: Tensor) -> Tensor:
        spread = numeric.to(torch.float32).index_select(1, self.column)
        return torch.nan_to_num(((spread - self.start) / self.width).clamp(0.0, 1.0), nan=0.0)


_MODULES: dict[str, type[Standard] | type[Quantile] | type[PiecewiseLinear]] = {
    "standard": Standard,
    "quantile": Quantile,
    "piecewise_linear": PiecewiseLinear,
}


class TablePreprocessing(nn.Module):
    """Raw numbers and categories -> model inputs.

    Args:
        statistics: of the training rows.

    Shape:
        numeric float [B, F], categories int64 [B, G] -> numeric float32 [B, num_numeric], categories int64 [B, G].
    """

    indicated: Tensor
    lookup: Tensor
    last: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self.statistics = statistics
        self.numbers = _MODULES[statistics.numbers](statistics)
        longest = max((len(table) for table in statistics.lookup), default=1)
        padded = [[*table, *[_UNSEEN] * (longest - len(table))] for table in statistics.lookup]
        for name, value in {
            "indicated": torch.tensor(statistics.indicated, dtype=torch.int64),
            "lookup": torch.tensor(padded, dtype=torch.int64).view(len(padded), longest),
            "last": torch.tensor([len(table) - 1 for table in statistics.lookup], dtype=torch.int64),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, numeric: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """Prepare numbers, mark what is missing, look categories up."""
        marks = numeric.index_select(1, self.indicated).isnan().to(torch.float32)
        places = torch.minimum(categories, self.last)
        known = self.lookup.gather(1, places.t()).t() if self.lookup.numel() else categories
        return torch.cat([self.numbers(numeric), marks], dim=1), known


# ----------------------------------------------------------------------------------------------------- measuring


def measure(
    train: Examples, min_count: int, numbers: Numbers = "standard", bins: int = 48, chunk: int = 8192
) -> Statistics:
    """Statistics of the training rows, in float64.

    Args:
        train: raw columns `numeric` and `categories`.
        min_count: category values rarer than this count as unseen, so that the index of unseen values is trained too.
        numbers: how numbers are prepared.
        bins: of a column, at most, for `piecewise_linear`; small tables have fewer, of 16 rows each.
    """
    batches = [train.collate(ids) for ids in torch.arange(len(train)).split(chunk)]
    numeric = torch.cat([batch["numeric"] for batch in batches]).double()
    categories = torch.cat([batch["categories"] for batch in batches])
    columns = [column[~column.isnan()] for column in numeric.unbind(1)]
    mean = [float(column.mean()) if len(column) else 0.0 for column in columns]
    std = [_deviation(column) for column in columns]
    knots: list[list[float]] = []
    if numbers == "quantile":
        count = max(_FEWEST_QUANTILES, min(_MOST_QUANTILES, len(train) // _ROWS_A_QUANTILE))
        knots = [quantiles(column, count) for column in columns]
    elif numbers == "piecewise_linear":
        most = max(_FEWEST_BINS, min(bins, len(train) // _ROWS_A_BIN))
        knots = [bin_edges(column, most) for column in columns]
    return Statistics(
        numbers=numbers,
        mean=mean,
        std=std,
        knots=knots,
        indicated=[place for place, column in enumerate(columns) if len(column) < len(train)],
        lookup=[_lookup(column, min_count) for column in categories.unbind(1)],
        gaps=torch.nonzero((categories == 0).any(0)).flatten().tolist(),
    )


def _deviation(values: Tensor) -> float:
    if not len(values):
        return 1.0
    std = float(values.std(correction=0))
    return std if std > 1e-7 * max(1e-30, float(values.mean().abs())) else 1.0


def quantiles(values: Tensor, count: int) -> list[float]:
    """`count` evenly spaced quantiles, linear between values (Hyndman and Fan's type 7); zeros where there are no
    values.
    """
    if not len(values):
        return [0.0] * count
    ordered = values.sort().values
    place = torch.linspace(0, len(ordered) - 1, count, dtype=torch.float64)
    low = place.floor().long()
    high = (low + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], place - low).cummax(0).values.tolist()


def bin_edges(values: Tensor, bins: int) -> list[float]:
    """Ascending edges of at most about `bins` bins that hold equally many values.

    A value that fills a bin alone is an edge, and the bins left are shared by the others. With no more distinct values
    than bins every value is an edge. One edge or none (no bins) where the column is constant or empty.
    """
    distinct, counts = torch.unique(values.float().double(), return_counts=True)  # as the network sees them
    if len(distinct) <= bins + 1:
        return distinct.tolist()
    heavy = counts * bins >= counts.sum()
    light = torch.where(heavy, 0, counts).cumsum(0).double()
    levels = torch.linspace(0, 1, max(1, bins - int(heavy.sum())) + 1, dtype=torch.float64) * light[-1]
    even = distinct[torch.searchsorted(light, levels).clamp(max=len(distinct) - 1)]
    return torch.unique(torch.cat([even, distinct[heavy], distinct[[0, -1]]])).tolist()


def _lookup(column: Tensor, min_count: int) -> list[int]:
    """Raw index -> model's index, in order of the raw one, for the values of one training column."""
    counts = torch.bincount(column, minlength=2)
    table = [_MISSING]
    known = _FIRST_KNOWN
    for count in counts[1:].tolist():
        table.append(known if count >= min_count else _UNSEEN)
        known += count >= min_count
    return [*table, _UNSEEN]
