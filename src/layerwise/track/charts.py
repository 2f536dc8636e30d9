"""Charts of the report as hand-made SVG: no script, no network, colours from the page's style. Imports no torch.

Text in a chart is data of strangers (class names, metric names): all of it passes `escape`.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_WIDTH, _HEIGHT = 400, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 12, 36
_MAX_POINTS = 400
_COLOURS = 10  # of classes in a scatter chart
_BANDS = 40  # places along a chart that show their values under the pointer
_SMOOTH_FROM = 80  # a noisy line of as many points is drawn faint, with its moving average on top


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a chart.

    Args:
        name: shown in the legend and under the pointer.
        points: (step, value), by step; values are finite.
        style: "train" or "val": the colour.
        noisy: many points are drawn faint, with their moving average on top.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    noisy: bool = True


def escape(value: object) -> str:
    """HTML text that shows `value` and nothing else."""
    return html.escape(str(value), quote=True)


def tag(element: str, content: str = "", **attributes: str | float) -> str:
    """An HTML or SVG element with escaped attributes (numbers to one decimal). Content is markup.

    Names of attributes are Python's: `class_`, `text_anchor`.

    Example:
        >>> tag("text", escape("a<b"), x=1.25, class_="tick")
        '<text x="1.2" class="tick">a&lt;b</text>'
    """
    shown = ""
    for name, value in attributes.items():
        text = escape(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
        shown += f' {name.rstrip("_").replace("_", "-")}="{text}"'
    return f"<{element}{shown}>{content}</{element}>"


def number(value: float) -> str:
    """A number as a person reads it: four significant digits, thousands separated.

    Example:
        >>> number(61706), number(0.98612), number(3e-05)
        ('61,706', '0.9861', '3e-05')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten apart), about `count` of them, around `low` and `high`."""
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / max(1, count - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12 - math.floor(math.log10(step))) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around positive `low` and `high`."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    stride = max(1, math.ceil((last - first) / 6))
    return [10.0**power for power in range(first, last + stride, stride)]


def _tick_label(value: float, ticks: Sequence[float], log: bool) -> str:
    if log:
        return f"{value:g}" if 1e-3 <= value <= 1e4 else f"1e{round(math.log10(value))}"
    largest = max(abs(tick) for tick in ticks)
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= scale * (10 if suffix == "k" else 1):
            return "0" if value == 0 else f"{value / scale:.6g}{suffix}"
    if 0 < largest < 0.01 and value:
        power = math.floor(math.log10(abs(value)) + 1e-9)
        return f"{value / 10.0**power:.3g}e{power}"
    return f"{value:.6g}"


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `_MAX_POINTS` points: the lowest and highest of each block, so that no spike is lost."""
    block = math.ceil(len(points) / (_MAX_POINTS // 2))
    if block <= 2:
        return list(points)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), block):
        part = points[start : start + block]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def _moving_average(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mean over a fortieth of the line around each point; at the ends over the half of that which there is."""
    half = max(1, len(points) // 80)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    smooth: list[tuple[float, float]] = []
    for i, (step, _) in enumerate(points):
        first, end = max(0, i - half), min(len(points), i + half + 1)
        smooth.append((step, (sums[end] - sums[first]) / (end - first)))
    return smooth


def _is_noisy(line: Series) -> bool:
    return line.noisy and len(line.points) >= _SMOOTH_FROM


def _shown_points(line: Series) -> Sequence[tuple[float, float]]:
    """What the strong line goes through."""
    return _moving_average(line.points) if _is_noisy(line) else line.points


class _Axes:
    """Value <-> place, both ways of scaling."""

    def __init__(self, series: Sequence[Series], log: bool) -> None:
        values = [value for line in series for _, value in line.points]
        steps = [step for line in series for step, _ in line.points]
        self.log = log
        self.y_ticks = log_ticks(min(values), max(values)) if log else nice_ticks(min(values), max(values))
        first, last = min(steps), max(steps)
        first = 0.0 if 0 < first < 0.2 * last else first
        ticks = nice_ticks(first, last, 6) if last > first else [first]
        self.x_ticks = [tick for tick in ticks if first <= tick <= last] or [first]
        self.first, self.span = first, (last - first) or 1.0
        self.low, self.high = self._scale(self.y_ticks[0]), self._scale(self.y_ticks[-1])

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def x(self, step: float) -> float:
        return _LEFT + (step - self.first) / self.span * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _TOP + (self.high - self._scale(value)) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)


def wants_log(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale shows these values better: all positive, over more than two powers of ten."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > 100


def line_chart(title: str, series: Sequence[Series], y_label: str) -> str:
    """A chart of one metric over steps, train and validation together.

    Args:
        title: heading of the chart.
        series: one or two lines; lines without points are left out.
        y_label: the metric, written at the vertical axis.
    """
    series = [line for line in series if line.points]
    if not series:
        return ""
    axes = _Axes(series, wants_log([value for line in series for _, value in line.points]))
    drawing = _grid(axes, y_label + (" (log scale)" if axes.log else ""))
    drawing += "".join(_line(line, axes) for line in series) + _bands(series, axes)
    ends = [number(_shown_points(line)[-1][1]) for line in series]
    legend = "".join(
        tag("span", tag("i", class_=f"swatch {line.style}") + escape(line.name) + tag("b", escape(end)), class_="key")
        for line, end in zip(series, ends, strict=True)
    )
    described = ", ".join(f"{line.name} ends at {end}" for line, end in zip(series, ends, strict=True))
    head = tag("figcaption", tag("strong", escape(title)) + tag("span", legend, class_="keys"))
    box = f"0 0 {_WIDTH} {_HEIGHT}"
    return tag(
        "figure",
        head + tag("svg", drawing, viewBox=box, role="img", aria_label=f"{title}: {described}"),
        class_="chart",
    )


def _text(text: str, x: float, y: float, kind: str, anchor: str = "middle") -> str:
    return tag("text", escape(text), class_=kind, x=x, y=y, text_anchor=anchor)


def _upright(text: str, x: float, y: float, kind: str, anchor: str = "middle") -> str:
    """Text that runs upwards from (x, y)."""
    turn = f"translate({x:.1f} {y:.1f}) rotate(-90)"
    return tag("text", escape(text), class_=kind, transform=turn, text_anchor=anchor)


def _rule(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return tag("line", class_=kind, x1=x1, y1=y1, x2=x2, y2=y2)


def _dot(kind: str, x: float, y: float, radius: float) -> str:
    return tag("circle", class_=kind, cx=x, cy=y, r=radius)


def _grid(axes: _Axes, y_label: str) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts: list[str] = []
    for tick in axes.y_ticks:
        y = axes.y(tick)
        parts.append(_rule("grid", _LEFT, y, right, y))
        parts.append(_text(_tick_label(tick, axes.y_ticks, axes.log), _LEFT - 6, y + 3.5, "tick", "end"))
    for tick in axes.x_ticks:
        x = axes.x(tick)
        parts.append(_rule("axis", x, bottom, x, bottom + 4))
        anchor = "end" if x > right - 12 else "middle"
        parts.append(_text(_tick_label(tick, axes.x_ticks, False), x, bottom + 15, "tick", anchor))
    parts.append(_rule("axis", _LEFT, bottom, right, bottom))
    parts.append(_text("step", (_LEFT + right) / 2, _HEIGHT - 5, "label"))
    parts.append(_upright(y_label, 11, (_TOP + bottom) / 2, "label"))
    return "".join(parts)


def _line(line: Series, axes: _Axes) -> str:
    def drawn(points: Sequence[tuple[float, float]], kind: str) -> str:
        path = " ".join(f"{axes.x(step):.1f},{axes.y(value):.1f}" for step, value in _thinned(points))
        return tag("polyline", class_=f"{kind} {line.style}", points=path)

    if _is_noisy(line):
        return drawn(line.points, "faint") + drawn(_shown_points(line), "line")
    dotted = line.points if len(line.points) <= 30 else ()
    return drawn(line.points, "line") + "".join(
        _dot(f"dot {line.style}", axes.x(step), axes.y(value), 2.4) for step, value in dotted
    )


def _bands(series: Sequence[Series], axes: _Axes) -> str:
    """Invisible columns over the chart: under the pointer they show a rule and the values nearest to it."""
    steps = sorted({step for line in series for step, _ in line.points})
    if len(steps) > _BANDS:
        steps = [steps[round(i * (len(steps) - 1) / (_BANDS - 1))] for i in range(_BANDS)]
    edges = [_LEFT, *((axes.x(a) + axes.x(b)) / 2 for a, b in pairwise(steps)), _WIDTH - _RIGHT]
    bottom = _HEIGHT - _BOTTOM
    parts: list[str] = []
    for step, (left, right) in zip(steps, pairwise(edges), strict=True):
        nearest = [(line, min(line.points, key=lambda point: abs(point[0] - step))) for line in series]
        text = "\n".join([f"step {number(step)}", *(f"{line.name}: {number(value)}" for line, (_, value) in nearest)])
        band = _rule("mark rule", axes.x(step), _TOP, axes.x(step), bottom)
        band += "".join(_dot(f"mark {line.style}", axes.x(at), axes.y(value), 3.5) for line, (at, value) in nearest)
        band += tag("rect", x=left, y=_TOP, width=max(0.0, right - left), height=bottom - _TOP)
        parts.append(tag("g", band + tag("title", escape(text)), class_="band"))
    return "".join(parts)


def interval_bar(value: float, interval: tuple[float, float] | None, low: float, high: float, style: str) -> str:
    """A value as a dot and its interval as a bar, on a scale from `low` to `high` that the rows of a table share.

    A value off the scale is an arrow at its edge.
    """
    width, span = 160, (high - low) or 1.0

    def place(number: float) -> float:
        return 6 + (min(max(number, low), high) - low) / span * (width - 12)

    parts = _rule("grid", 6, 9, width - 6, 9)
    if low <= value <= high:
        if interval is not None:
            parts += _rule(f"whisker {style}", place(interval[0]), 9, place(interval[1]), 9)
        parts += _dot(f"dot {style}", place(value), 9, 4)
    else:
        edge, back = (2, 9) if value < low else (width - 2, width - 9)
        parts += tag("path", class_=f"dot {style}", d=f"M{edge} 9 L{back} 5 V13 Z")
    return tag("svg", parts, class_="interval", viewBox=f"0 0 {width} 18", aria_hidden="true")


def heat_map(labels: Sequence[str], counts: Sequence[Sequence[float]]) -> str:
    """A confusion matrix: rows are the true classes, columns the predicted ones; mistakes in their own, steeper colour.

    Shade of the diagonal: share of the row. Shade of a mistake: square root of its share of the most frequent mistake.
    """
    size = len(labels)
    cell = 58.0 if size <= 4 else 34.0 if size <= 12 else max(12.0, 480 / size)
    names = [label if len(label) <= 14 else label[:13] + "\N{HORIZONTAL ELLIPSIS}" for label in labels]
    longest = max(len(name) for name in names)
    margin = 26 + 6.4 * longest
    side = margin + cell * size
    middle = margin + cell * size / 2
    parts = [_text("predicted", middle, 12, "label"), _upright("true", 12, middle, "label")]
    for i, name in enumerate(names):
        place = margin + cell * (i + 0.5)
        parts.append(_text(name, margin - 6, place + 3.5, "tick", "end"))
        if 6.4 * longest < cell - 1:
            parts.append(_text(name, place, margin - 8, "tick"))
        else:
            parts.append(_upright(name, place + 3.5, margin - 6, "tick", "start"))
    worst = max((counts[i][j] for i in range(size) for j in range(size) if i != j), default=0) or 1
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            share = count / (sum(row) or 1)
            shade = share if i == j else 0.12 + 0.88 * math.sqrt(count / worst) if count else 0.0
            text = f"true {labels[i]}, predicted {labels[j]}: {number(count)} ({100 * share:.1f} % of the row)"
            corner = margin + cell * j, margin + cell * i
            parts.append(_cell(corner, cell, "hit" if i == j else "miss", shade, number(count), text))
    return tag(
        "svg",
        "".join(parts),
        class_="matrix",
        viewBox=f"0 0 {side:.0f} {side:.0f}",
        style=f"max-width:{side * 1.15:.0f}px" + (f";min-width:{side * 0.8:.0f}px" if size > 12 else ""),
        role="img",
        aria_label="confusion matrix",
    )


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Points of several classes in a plane.

    Args:
        title: heading.
        points: (x, y), finite.
        labels: class of each point, an index into `names`.
        names: of the classes.
        note: one line under it.
    """

    title: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[int]
    names: Sequence[str]
    note: str = ""


def scatter_chart(chart: Scatter) -> str:
    """Points in the colours of their classes; short class names stand at the medians of their points.

    The most frequent classes have colours, the others share grey (see `class_keys`).
    """
    size, edge = 240, 10
    columns = [[point[axis] for point in chart.points] for axis in (0, 1)]
    low = [min(column, default=0.0) for column in columns]
    spans = [(max(column, default=1.0) - least) or 1.0 for column, least in zip(columns, low, strict=True)]
    places = [
        (
            edge + (x - low[0]) / spans[0] * (size - 2 * edge),
            size - edge - (y - low[1]) / spans[1] * (size - 2 * edge),
        )
        for x, y in chart.points
    ]
    parts: list[str] = []
    texts: list[str] = []
    styles = _class_styles(chart.labels)
    for label in sorted(set(chart.labels), key=lambda label: (styles.get(label, "k-rest") != "k-rest", label)):
        own = [place for place, other in zip(places, chart.labels, strict=True) if other == label]
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in own)
        parts.append(tag("path", class_=f"points {styles.get(label, 'k-rest')}", d=path))
        if len(chart.names[label]) <= 3 and label in styles:
            xs, ys = sorted(x for x, _ in own), sorted(y for _, y in own)
            texts.append(_text(chart.names[label], xs[len(xs) // 2], ys[len(ys) // 2] + 5, "place"))
    box = f"0 0 {size} {size}"
    described = f"{chart.title}: {len(chart.points)} points of {len(set(chart.labels))} classes"
    head = tag("figcaption", tag("strong", escape(chart.title)))
    note = tag("small", escape(chart.note)) if chart.note else ""
    drawing = tag("svg", "".join(parts + texts), viewBox=box, role="img", aria_label=described)
    return tag("figure", head + drawing + note, class_="chart scatter")


def class_keys(chart: Scatter) -> str:
    """Which colour is which class."""
    styles = _class_styles(chart.labels)
    shown = [(chart.names[label], style) for label, style in styles.items()]
    if len(styles) < len(set(chart.labels)):
        shown.append(("other classes", "k-rest"))
    items = "".join(tag("span", tag("i", class_=f"blob {style}") + escape(name), class_="key") for name, style in shown)
    return tag("p", items, class_="keys classes")


def _class_styles(labels: Sequence[int]) -> dict[int, str]:
    """Style of each class that has a colour, by class: the ten with most points."""
    counts = {label: sum(other == label for other in labels) for label in set(labels)}
    chosen = sorted(sorted(counts), key=lambda label: -counts[label])[:_COLOURS]
    return {label: f"k{place}" for place, label in enumerate(sorted(chosen))}


def _cell(corner: tuple[float, float], size: float, kind: str, shade: float, count: str, title: str) -> str:
    x, y = corner
    style = f"--shade:{shade:.3f}"
    drawn = tag("rect", class_=f"cell {kind}", x=x + 0.7, y=y + 0.7, width=size - 1.4, height=size - 1.4, style=style)
    if size >= 34 and count != "0":
        tone = "strong" if shade > 0.55 else "weak"
        drawn += _text(count, x + size / 2, y + size / 2 + 4, f"count {tone}")
    return tag("g", drawn + tag("title", escape(title)))
