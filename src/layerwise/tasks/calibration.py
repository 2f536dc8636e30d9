"""Calibration: whether what a classifier holds to be 70 % likely comes true in 70 % of the cases.

C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On calibration of modern neural networks", ICML 2017,
https://arxiv.org/abs/1706.04599.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerwise.tasks.base import wilson_interval

_BINS = 10


def reliability(probabilities: Tensor, came_true: Tensor, bins: int = _BINS) -> list[dict[str, Any]]:
    """A row for every bin of probability that has examples: the mean probability, and the share that came true with its
    95 % interval.

    Args:
        probabilities: [N], in [0, 1].
        came_true: bool [N].
        bins: equally wide.
    """
    place = (probabilities * bins).long().clamp(max=bins - 1)
    rows: list[dict[str, Any]] = []
    for index in range(bins):
        here = place == index
        count, true = int(here.sum()), int(came_true[here].sum())
        if count:
            low, high = wilson_interval(true, count)
            rows.append(
                {
                    "predicted": f"{index / bins:.0%} to {(index + 1) / bins:.0%}",
                    "count": count,
                    "mean predicted": float(probabilities[here].double().mean()),
                    "came true": true / count,
                    "low": low,
                    "high": high,
                }
            )
    return rows


def draw_reliability(probabilities: Tensor, came_true: Tensor, what: str, path: Path) -> None:
    """The reliability curve with 95 % intervals over a histogram of the probabilities, as a PNG.

    Args:
        probabilities, came_true: as in `reliability`.
        what: the event, for the axes.
        path: file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = reliability(probabilities, came_true)
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    curve, histogram = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    curve.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="perfectly calibrated")
    x, y = [row["mean predicted"] for row in rows], [row["came true"] for row in rows]
    spread = [
        [max(0.0, row["came true"] - row["low"]) for row in rows],
        [max(0.0, row["high"] - row["came true"]) for row in rows],
    ]
    curve.errorbar(x, y, yerr=spread, color="#3f51b5", marker="o", markersize=4, capsize=2, label="this network")
    curve.set(ylabel="share that came true, 95 % interval", ylim=(-0.02, 1.02), xlim=(-0.02, 1.02))
    curve.legend(frameon=False, loc="upper left")
    counts = torch.histc(probabilities.double(), bins=40, min=0.0, max=1.0)
    histogram.bar([(k + 0.5) / 40 for k in range(40)], counts.tolist(), width=1 / 40, color="0.75")
    histogram.set(xlabel=f"probability given to {what}".replace("$", r"\$"), ylabel="rows")
    figure.savefig(path, dpi=120)
