"""Pictures of small networks: truth tables, answers over a plane, hidden codes, a line that moves. PNG files.

Shapes: N patterns, F inputs, K output units, D hidden units.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ZERO, _ONE, _WRONG, _INK = "#3b6fb6", "#d1782d", "#b3261e", "#222222"
_GRID = 241  # points a side of a surface


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=90, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # no window, whatever MPLBACKEND says
    return figure


def _save(figure: "Figure", path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return path


def _cells(
    axes: "Axes", rows: Sequence[Sequence[str]], headings: Sequence[str], colours: Sequence[Sequence[str]]
) -> None:
    """A table of short texts on coloured cells."""
    from matplotlib.patches import Rectangle

    axes.set_xlim(0, len(headings))
    axes.set_ylim(len(rows) + 1, 0)
    axes.set_axis_off()
    for column, heading in enumerate(headings):
        axes.text(column + 0.5, 0.6, heading, ha="center", va="center", color=_INK, weight="bold")
        for row, text in enumerate(rows):
            colour = colours[row][column]
            axes.add_patch(Rectangle((column + 0.04, row + 1.04), 0.92, 0.92, facecolor=colour, edgecolor="none"))
            axes.text(column + 0.5, row + 1.5, text[column], ha="center", va="center", color=_ink_on(colour))


def _shade(value: float) -> str:
    """White for 0, the colour of ones for 1."""
    strong = tuple(int(_ONE[i : i + 2], 16) for i in (1, 3, 5))
    part = min(max(value, 0.0), 1.0)
    return "#" + "".join(f"{round(255 + part * (channel - 255)):02x}" for channel in strong)


def _ink_on(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "#ffffff"


def _short(value: float) -> str:
    return f"{value:.0f}" if value in (0.0, 1.0) else f"{value:.2f}"


def truth_table(features: Tensor, targets: Tensor, outputs: Tensor, right: Tensor, path: Path) -> Path:
    """A row a pattern: inputs [N, F], targets [N, K], outputs [N, K] in [0, 1], and whether it is right [N]."""
    names = (
        *_numbered("in", features.shape[1]),
        *_numbered("want", targets.shape[1]),
        *_numbered("out", outputs.shape[1]),
    )
    values = torch.cat([features.double(), targets.double(), outputs.double()], 1).tolist()
    figure = _figure(0.72 * (len(names) + 1), 0.42 * (len(values) + 1.4))
    rows = [[*map(_short, row), "right" if good else "wrong"] for row, good in zip(values, right.tolist(), strict=True)]
    colours = [
        [*map(_shade, row), "#ffffff" if good else _WRONG] for row, good in zip(values, right.tolist(), strict=True)
    ]
    _cells(figure.add_subplot(), rows, [*names, ""], colours)
    return _save(figure, path)


def _numbered(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name} {i + 1}" for i in range(count)]


def code_table(features: Tensor, code: Tensor, outputs: Tensor, path: Path) -> Path:
    """A row a pattern: the inputs as one word, hidden units [N, D], outputs [N, K] as shades."""
    words = ["".join(str(int(bit)) for bit in row) for row in features.tolist()]
    hidden, given = code.double().tolist(), outputs.double().tolist()
    figure = _figure(2.2 + 0.6 * code.shape[1] + 0.6 * outputs.shape[1], 0.42 * (len(words) + 1.4))
    left, middle, right = figure.subplots(
        1, 3, gridspec_kw={"width_ratios": [2.2 / 0.6, code.shape[1], outputs.shape[1]]}
    )
    _cells(left, [[word] for word in words], ["pattern"], [["#ffffff"] for _ in words])
    headings = [f"h{i + 1}" for i in range(code.shape[1])]
    _cells(
        middle, [[f"{v:.2f}" for v in row] for row in hidden], headings, [[_shade(v) for v in row] for row in hidden]
    )
    headings = [f"o{i + 1}" for i in range(outputs.shape[1])]
    _cells(right, [[f"{v:.2f}" for v in row] for row in given], headings, [[_shade(v) for v in row] for row in given])
    return _save(figure, path)


def _points(axes: "Axes", features: Tensor, targets: Tensor) -> None:
    for value, colour, marker in ((0.0, _ZERO, "o"), (1.0, _ONE, "s")):
        chosen = features[targets == value].numpy()
        axes.scatter(
            chosen[:, 0], chosen[:, 1], s=34 if len(features) <= 200 else 10, c=colour, marker=marker, zorder=3,
            edgecolors="white", linewidths=0.7, label=f"wanted {value:.0f}",
        )  # fmt: skip


def _limits(features: Tensor) -> tuple[tuple[float, float], tuple[float, float]]:
    low, high = features.double().amin(0), features.double().amax(0)
    pad = 0.25 * (high - low).clamp(min=0.2)
    return (float(low[0] - pad[0]), float(high[0] + pad[0])), (float(low[1] - pad[1]), float(high[1] + pad[1]))


def surface(answer: Callable[[Tensor], Tensor], features: Tensor, targets: Tensor, path: Path) -> Path:
    """The answer in [0, 1] over the plane of two inputs, the examples [N, 2] on it, and where it is one half."""
    from matplotlib.colors import LinearSegmentedColormap

    x_limits, y_limits = _limits(features)
    xs, ys = torch.linspace(*x_limits, _GRID), torch.linspace(*y_limits, _GRID)
    grid = torch.stack([xs.repeat(_GRID), ys.repeat_interleave(_GRID)], 1)
    values = answer(grid).double().view(_GRID, _GRID)
    figure = _figure(4.6, 4.0)
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("answer", [_ZERO, "#f6f6f6", _ONE])
    shown = axes.imshow(
        values.numpy(), origin="lower", extent=(*x_limits, *y_limits), cmap=colours, vmin=0, vmax=1, alpha=0.75,
        aspect="auto",
    )  # fmt: skip
    figure.colorbar(shown, ax=axes, label="answer")
    if float(values.min()) < 0.5 < float(values.max()):
        axes.contour(xs.numpy(), ys.numpy(), values.numpy(), levels=[0.5], colors=_INK, linewidths=1.2)
    _points(axes, features, targets)
    axes.set_xlabel("input 1")
    axes.set_ylabel("input 2")
    return _save(figure, path)


def hidden_plane(code: Tensor, targets: Tensor, path: Path) -> Path:
    """Two hidden units [N, 2] of each pattern; shared places are drawn larger. Colours are of the first output unit."""
    places, counts = torch.unique(
        torch.cat([code.double().mul(100).round().div(100), targets[:, :1].double()], 1),
        dim=0, return_counts=True,
    )  # fmt: skip
    figure = _figure(4.4, 4.0)
    axes = figure.add_subplot()
    for value, colour, marker in ((0.0, _ZERO, "o"), (1.0, _ONE, "s")):
        chosen = places[:, 2] == value
        axes.scatter(
            places[chosen, 0], places[chosen, 1], s=40 + 14 * (counts[chosen] - 1), c=colour, marker=marker, alpha=0.8,
            edgecolors="white", linewidths=0.7, label=f"wanted {value:.0f}",
        )  # fmt: skip
    axes.set_xlabel("hidden unit 1")
    axes.set_ylabel("hidden unit 2")
    axes.legend(loc="best", framealpha=0.9)
    return _save(figure, path)


def line_course(states: Sequence[tuple[int, Tensor]], features: Tensor, targets: Tensor, path: Path) -> Path:
    """The line `w_1 x_1 + w_2 x_2 + b = 0` of kept states (updates, [w_1, w_2, b]), later ones darker."""
    x_limits, y_limits = _limits(features)
    figure = _figure(5.0, 4.2)
    axes = figure.add_subplot()
    drawn = [(updates, weights.double()) for updates, weights in states if bool(weights[:2].any())]
    for index, (updates, weights) in enumerate(drawn):
        share = (index + 1) / len(drawn)
        grey = f"{0.8 * (1 - share):.3f}"
        w1, w2, b = weights.tolist()
        foot = -b * weights[:2] / float(weights[:2].square().sum())
        axes.axline(
            tuple(foot.tolist()), tuple((foot + torch.tensor([-w2, w1], dtype=torch.float64)).tolist()), color=grey,
            linewidth=0.8 + 1.4 * share, label=f"{updates} update{'s' * (updates != 1)}",
        )  # fmt: skip
    _points(axes, features, targets)
    axes.set_aspect("equal")
    axes.set_xlim(*x_limits)
    axes.set_ylim(*y_limits)
    axes.set_xlabel("input 1")
    axes.set_ylabel("input 2")
    figure.legend(loc="outside right upper", fontsize="small")
    return _save(figure, path)
