"""What the regression tasks share: targets to standard units and back, and metrics in the targets' own units."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Examples, Subset
from layerwise.tasks.base import Accumulator, Batch

_Z = 1.959964


@runtime_checkable
class HasTargets(Protocol):
    """Examples whose targets can be had without decoding their pictures."""

    def targets(self) -> Tensor:
        """float64 [N] or [N, T]."""
        ...


def targets_of(examples: Examples, chunk: int = 8192) -> Tensor:
    """The column `target` of a whole split."""
    if isinstance(examples, Subset):
        return targets_of(examples.parent, chunk).index_select(0, examples.indices)
    if isinstance(examples, HasTargets):
        return examples.targets()
    return torch.cat([examples.collate(ids)["target"] for ids in torch.arange(len(examples)).split(chunk)])


@dataclass(frozen=True, kw_only=True)
class TargetScale:
    """Names, means and standard deviations of the targets, from the training examples. Plain values: it travels with
    the weights as JSON.
    """

    names: list[str]
    mean: list[float]
    std: list[float]

    @staticmethod
    def measure(train: Examples, names: Sequence[str]) -> "TargetScale":
        """From the column `target` float64 [N] or [N, T].

        Raises:
            DataError: a target never varies.
        """
        target = targets_of(train).double().view(len(train), -1)
        mean, std = target.mean(0).tolist(), target.std(0, correction=0).tolist()
        for name, centre, spread in zip(names, mean, std, strict=True):
            if spread <= 1e-12 * abs(centre):
                raise DataError(f"The target {name!r} is always {centre:g}: there is nothing to learn.")
        return TargetScale(names=list(names), mean=mean, std=std)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def standardise(self, target: Tensor) -> Tensor:
        """[B] or [B, T] in their own units -> float32 [B, T] of mean 0 and deviation 1."""
        wide = target.double().view(len(target), -1)
        return ((wide - wide.new_tensor(self.mean)) / wide.new_tensor(self.std)).to(torch.float32)

    def restore(self, outputs: Tensor) -> Tensor:
        """The network's outputs [B, T] -> float64 [B, T] in the targets' units."""
        wide = outputs.double().cpu()
        return wide * wide.new_tensor(self.std) + wide.new_tensor(self.mean)


class RegressionMetrics(Accumulator):
    """RMSE and MAE in the target's units, and R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2, from float64 sums.

    With several targets R2 and the loss are means over targets, RMSE and MAE carry the target's name, and the report
    has a table.

    Args:
        scale: of the targets.
    """

    def __init__(self, scale: TargetScale) -> None:
        self.scale = scale
        # per target: count, sum z, sum z^2, sum e^2, sum |e|, sum e^4 of standardised targets z and errors e = z - f
        self.sums = torch.zeros(len(scale.names), 6, dtype=torch.float64)

    def update(self, network: nn.Module, batch: Batch) -> None:
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "sample_ids")}
        output = network(**inputs)
        self.update_from(output[0] if isinstance(output, tuple) else output, batch["labels"])

    def update_from(self, predictions: Tensor, targets: Tensor) -> None:
        """Take in standardised predictions and targets [B, T] directly."""
        z = targets.double().cpu()
        wrong = z - predictions.double().cpu()
        parts = (torch.ones_like(z), z, z.square(), wrong.square(), wrong.abs(), wrong.square().square())
        self.sums += torch.stack([part.sum(0) for part in parts], dim=1)

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = torch.stack([state["sums"] for state in states]).sum(0)

    def compute(self) -> dict[str, float]:
        rows = self._rows()
        if not rows:
            return {}
        values = {"loss": float((self.sums[:, 3] / self.sums[:, 0]).mean())}
        for row in rows:
            ending = "" if len(rows) == 1 else f"_{row['target']}"
            values |= {f"rmse{ending}": row["rmse"], f"mae{ending}": row["mae"]}
        determined = [row["r2"] for row in rows if row["r2"] is not None]
        if determined:
            values["r2"] = sum(determined) / len(determined)
        return values

    def table(self) -> dict[str, Any]:
        rows = self._rows()
        if not rows:
            return {}
        found: dict[str, Any] = {"count": int(self.sums[0, 0])}
        if len(rows) > 1:
            return {**found, "per_target": rows}
        return {**found, "intervals": self._intervals()}

    def _rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for name, std, sums in zip(self.scale.names, self.scale.std, self.sums.tolist(), strict=True):
            count, total, squares, wrong, distance, _ = sums
            if not count:
                return []
            spread = squares - total * total / count
            r2 = 1 - wrong / spread if spread > 1e-12 * max(squares, 1e-300) else None
            rows.append({"target": name, "rmse": std * (wrong / count) ** 0.5, "mae": std * distance / count, "r2": r2})
        return rows

    def _intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of RMSE and MAE: means of squared and absolute errors, normal over examples."""
        count, _, _, wrong, distance, fourth = self.sums[0].tolist()
        if count < 2:
            return {}
        std = self.scale.std[0]
        square, absolute = wrong / count, distance / count
        square_half = _Z * (max(0.0, fourth / count - square**2) / (count - 1)) ** 0.5
        absolute_half = _Z * (max(0.0, square - absolute**2) / (count - 1)) ** 0.5
        return {
            "rmse": (std * max(0.0, square - square_half) ** 0.5, std * (square + square_half) ** 0.5),
            "mae": (std * max(0.0, absolute - absolute_half), std * (absolute + absolute_half)),
        }
