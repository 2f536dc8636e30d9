"""The report of a run as one self-contained page, and its card. Imports no torch.

The page has no script, loads nothing, and says so to the browser (Content-Security-Policy). Whatever comes from data
(class names, file names, captions) is escaped.
"""

import base64
import json
import math
import os
import shlex
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.track import files
from layerwise.track.charts import (
    Scatter,
    Series,
    class_keys,
    escape,
    heat_map,
    interval_bar,
    line_chart,
    number,
    scatter_chart,
)
from layerwise.track.page import page
from layerwise.track.run_directory import RunDirectory

_MOST_CLASSES_DRAWN = 40  # a larger confusion matrix is shown as its most frequent mistakes
_MOST_ROWS = 200  # of a table
_LONG = 40  # letters of a cell that is kept wide, so that narrow screens scroll in place of breaking it word by word
_SIGNATURES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"))

Pictures = Sequence[tuple[str, Path]]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One row of the comparison.

    Args:
        name: of the method.
        value: of the headline metric on the same split.
        interval: 95 % interval of the value.
        seconds: it took to fit.
        note: what else to know, one line.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A further part of the report (samples, what a layer learned).

    Args:
        title: heading.
        text: a paragraph before the rest.
        rows: a table, one mapping a row; the columns are the keys in order of appearance.
        scatters: charts of points that share their classes.
        pictures: (caption, file).
    """

    title: str
    text: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    scatters: Sequence[Scatter] = ()
    pictures: Pictures = ()


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What the report shows beside what the run directory holds already (curves, configuration, environment).

    Args:
        title: name of the model and the data.
        summary: what it is, one or two sentences.
        facts: short pairs for the top (model, parameters, data, sizes of the splits, training time).
        split: where the metrics were read: "test", "validation".
        headline: key in `metrics` of the figure that counts; None shows none.
        higher_is_better: of the headline metric.
        metrics: name -> value on that split.
        intervals: name -> 95 % interval.
        seconds: training took; for the comparison.
        baselines: other methods on the same split.
        details: a task's `Accumulator.table()`. `confusion` (counts, rows are true classes) with `class_names`,
            `per_class` and `most_wrong` (lists of mappings; `low` and `high` of a row are drawn as an interval) and
            `count` (of examples) have their places; every other list of mappings becomes a table, every other value a
            row of "Details".
        pictures: samples as (caption, file).
        most_wrong: the worst mistakes as (caption, file).
        sections: further parts.
        throughput: name -> value (images/s, step time).
        selected_by: what selected the weights ("best val/accuracy, step 1,200", "last step").
        warnings: what a reader must know, plain sentences.
        commands: (what it does, command) for the next steps.
    """

    title: str
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"
    headline: str | None = None
    higher_is_better: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float | None = None
    baselines: Sequence[Baseline] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    pictures: Pictures = ()
    most_wrong: Pictures = ()
    sections: Sequence[Section] = ()
    throughput: Mapping[str, Any] = field(default_factory=dict)
    selected_by: str = ""
    warnings: Sequence[str] = ()
    commands: Sequence[tuple[str, str]] = ()


def write_report(run: RunDirectory, report: ReportData) -> Path:
    """Write `report.html` of a run and return its path.

    Raises:
        StorageError: it cannot be written; an older one is whole.
        CheckpointError: `metrics.jsonl` or `env.json` is damaged.
    """
    lines = run.metrics_log().read()
    parts = [
        _top(run, report),
        _warnings(report.warnings),
        _comparison(report),
        _section("Metrics", _metric_cards(report)),
        _section("Training", _curves(lines, report)),
        _confusion(report.details),
        _section("By class", _table(report.details.get("per_class", ()))),
        _section("Samples", _gallery(report.pictures)),
        _section("Most wrong", _gallery(report.most_wrong) or _table(report.details.get("most_wrong", ()))),
        *(_section(part.title, _free_section(part)) for part in report.sections),
        *_other_details(report.details),
        _section("Throughput", _pairs(report.throughput)),
        _section("Use it", _commands(report.commands or default_commands(run))),
        _section("How it was made", _provenance(run)),
    ]
    files.write_text(run.report, page(escape(report.title), "\n".join(part for part in parts if part)))
    return run.report


def default_commands(run: RunDirectory) -> list[tuple[str, str]]:
    """Next steps that every run has."""
    path = shlex.quote(os.fspath(run.path))
    return [
        ("evaluate again", f"layerwise eval {path}"),
        ("continue or extend", f"layerwise train {path}"),
        ("train anew with this configuration", f"layerwise train {shlex.quote(os.fspath(run.config))}"),
    ]


# ------------------------------------------------------------------------------------------------------------- parts


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _free_section(section: Section) -> str:
    text = f"<p>{escape(section.text)}</p>" if section.text else ""
    scatters = "".join(scatter_chart(chart) for chart in section.scatters)
    if scatters:
        scatters = f"{class_keys(section.scatters[0])}<div class=scatters>{scatters}</div>"
    body = _table(section.rows) + scatters + _gallery(section.pictures)
    return text + body if body or section.text else ""


def _top(run: RunDirectory, report: ReportData) -> str:
    status = run.status()
    env = run.read_env()
    shown = {"Run": run.path.name, "Status": f"{status['status']}, step {number(status['step'])}", **report.facts}
    if report.selected_by:
        shown["Weights"] = report.selected_by
    if env.get("started"):
        shown["Started"] = str(env["started"])[:16].replace("T", " ")
    facts = "".join(
        f"<div><dt>{escape(_words(name))}</dt><dd>{escape(_shown(value))}</dd></div>" for name, value in shown.items()
    )
    intro = f"<div class=intro><h1>{escape(report.title)}</h1><p>{escape(report.summary)}</p></div>"
    return f"<header>{intro}{_headline(report)}<dl>{facts}</dl></header>"


def _headline(report: ReportData) -> str:
    if report.headline is None or report.headline not in report.metrics:
        return ""
    share = _is_share(report, report.headline)
    interval = report.intervals.get(report.headline)
    count = f", {number(report.details['count'])} examples" if "count" in report.details else ""
    sub = f"95 % interval {_figure(interval[0], share)} to {_figure(interval[1], share)}" if interval else ""
    return (
        f"<div class=headline><span>{escape(f'{report.split} {_words(report.headline, capital=False)}{count}')}</span>"
        f"<strong>{_figure(report.metrics[report.headline], share)}</strong><small>{sub}</small></div>"
    )


def _warnings(warnings: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in warnings)
    return f'<aside class="warnings"><h2>Before you rely on it</h2><ul>{items}</ul></aside>' if items else ""


def _comparison(report: ReportData) -> str:
    """The network beside the baselines, best first, with a sentence on whether the intervals part them."""
    if not report.baselines or report.headline is None or report.headline not in report.metrics:
        return ""
    name = report.headline
    own = Baseline(
        name="this network", value=report.metrics[name], interval=report.intervals.get(name), seconds=report.seconds
    )
    rows = sorted([own, *report.baselines], key=lambda row: row.value, reverse=report.higher_is_better)
    share = _is_share(report, name)
    low, high = _scale(own, rows)
    body = ""
    for row in rows:
        interval = f"{_figure(row.interval[0], share)} to {_figure(row.interval[1], share)}" if row.interval else ""
        bar = interval_bar(row.value, row.interval, low, high, "val" if row is own else "other")
        note = f"<small>{escape(row.note)}</small>" if row.note else ""
        body += (
            f"<tr{' class=own' if row is own else ''}><th scope=row>{escape(row.name)}{note}</th>"
            f"<td class=num>{_figure(row.value, share)}</td><td class=num>{interval}</td>"
            f"<td class=bar>{bar}</td><td class=num>{_seconds(row.seconds)}</td></tr>"
        )
    head = (
        f"<tr><th>method</th><th class=num>{escape(_words(name, capital=False))}</th><th class=num>95 % interval</th>"
        "<th class=bar></th><th class=num>fit in</th></tr>"
    )
    table = f"<div class=scroll><table class=full><thead>{head}</thead><tbody>{body}</tbody></table></div>"
    return _section("Beside simpler methods", f"<p>{escape(_verdict(own, rows))}</p>{table}")


def _scale(own: Baseline, rows: Sequence[Baseline]) -> tuple[float, float]:
    """Ends of the interval column: around the rows near the network, so that one far off does not flatten them."""

    def ends(row: Baseline) -> tuple[float, ...]:
        return (row.value, *(row.interval or ()))

    widest = max((row.interval[1] - row.interval[0] for row in rows if row.interval), default=math.inf)
    near = [end for row in rows if abs(row.value - own.value) <= 4 * widest for end in ends(row)]
    pad = 0.05 * (max(near) - min(near))
    return min(near) - pad, max(near) + pad


def _verdict(own: Baseline, rows: Sequence[Baseline]) -> str:
    """Who is ahead, and whether the intervals overlap."""
    rival = next(row for row in rows if row is not own)
    order = "ahead of" if rows[0] is own else "behind"
    if own.value == rival.value:
        order = "level with"
    text = f"On the same split, this network is {order} {rival.name}"
    if own.interval is None or rival.interval is None:
        return f"{text}."
    overlap = own.interval[0] <= rival.interval[1] and rival.interval[0] <= own.interval[1]
    return f"{text}; their intervals " + (
        "overlap: this split does not tell them apart." if overlap else "do not overlap."
    )


def _metric_cards(report: ReportData) -> str:
    cards = ""
    for name, value in report.metrics.items():
        share = _is_share(report, name)
        interval = report.intervals.get(name)
        sub = f"<small>{_figure(interval[0], share)} to {_figure(interval[1], share)}</small>" if interval else ""
        cards += f"<div><span>{escape(_words(name))}</span><strong>{_figure(value, share)}</strong>{sub}</div>"
    return f"<div class=cards>{cards}</div>" if len(report.metrics) > 1 else ""


def _curves(lines: Sequence[Mapping[str, Any]], report: ReportData) -> str:
    """Every number of the log over steps; `train/x` and `val/x` share a chart."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in lines:
        for key, value in line.items():
            part, _, name = key.rpartition("/")
            timed = key.startswith("time") or key in ("step", "epoch", "samples_per_s")  # see "Throughput"
            if (
                timed
                or part == "test"
                or isinstance(value, bool)
                or not isinstance(value, int | float)
                or not math.isfinite(value)
            ):
                continue
            if part not in ("train", "val", ""):
                part, name = "", key
            found.setdefault(name, {}).setdefault(part, []).append((float(line.get("step", 0)), float(value)))

    def rank(name: str) -> tuple[int, str]:
        places = {"loss": 0, (report.headline or "").rpartition("/")[2]: 1, "lr": 3}
        return places.get(name, 2), name

    labels = {"train": "training", "val": "validation", "": ""}
    charts = []
    for name in sorted(found, key=rank):
        if all(len(points) == 1 for points in found[name].values()):
            continue  # a single value is no curve; the last one is among the metrics
        series = [
            Series(
                name=labels[part] or _words(name, capital=False),
                points=sorted(found[name][part]),
                style="val" if part == "val" else "train",
                noisy=name != "lr",
            )
            for part in ("train", "", "val")
            if part in found[name]
        ]
        charts.append(line_chart(_words(name), series, _words(name, capital=False)))
    if not charts:
        return ""
    note = "Faint lines are single steps, strong ones their moving average. Point at a chart to read its values."
    return f"<div class=charts>{''.join(charts)}</div><p class=note>{note}</p>"


def _confusion(details: Mapping[str, Any]) -> str:
    counts = details.get("confusion")
    if not counts:
        return ""
    labels = [str(name) for name in details.get("class_names") or range(len(counts))]
    pairs = [(counts[i][j], i, j) for i in range(len(counts)) for j in range(len(counts)) if i != j and counts[i][j]]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = [
        {
            "true": labels[i],
            "predicted": labels[j],
            "count": count,
            "share of the class": f"{100 * count / sum(counts[i]):.1f} %",
        }
        for count, i, j in pairs[:8]
    ]
    body = ""
    if len(labels) <= _MOST_CLASSES_DRAWN:
        body += f'<div class="scroll{" alone" if len(labels) > 12 else ""}">{heat_map(labels, counts)}</div>'
    if rows:
        body += f"<div><h3>Most frequent mistakes</h3>{_table(rows)}</div>"
    return _section("Confusion", f"<div class=beside>{body}</div>")


def _other_details(details: Mapping[str, Any]) -> list[str]:
    own = {"confusion", "class_names", "per_class", "most_wrong", "intervals", "count"}
    rest = {key: value for key, value in details.items() if key not in own}
    tables = {key: value for key, value in rest.items() if _is_rows(value)}
    pairs = {key: value for key, value in rest.items() if key not in tables}
    return [
        *(_section(_words(key), _table(value)) for key, value in tables.items()),
        _section("Details", _pairs(pairs)),
    ]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mappings as a table; `low` and `high` of a row are drawn beside the number before them."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    bars = "low" in columns and "high" in columns
    columns = [key for key in columns if not (bars and key in ("low", "high"))]
    numeric = {key for key in columns if all(row.get(key) is None or _is_number(row.get(key)) for row in rows)}
    measured = next((key for key in reversed(columns) if key in numeric), None)
    low = min((row["low"] for row in rows if row.get("low") is not None), default=0.0)
    high = max((row["high"] for row in rows if row.get("high") is not None), default=1.0)
    head = "".join(
        f"<th{' class=num' if key in numeric else ''}>{escape(_words(key, capital=False))}</th>" for key in columns
    )
    body = ""
    for row in rows[:_MOST_ROWS]:
        cells = "".join(_table_cell(_cell(key, row.get(key)), key in numeric) for key in columns)
        if bars:
            cells += f"<td class=bar>{_row_bar(row, measured, low, high)}</td>"
        body += f"<tr>{cells}</tr>"
    more = f"<p class=note>The first {_MOST_ROWS} of {len(rows):,} rows.</p>" if len(rows) > _MOST_ROWS else ""
    last = "<th>95 % interval</th>" if bars else ""
    return f"<div class=scroll><table><thead><tr>{head}{last}</tr></thead><tbody>{body}</tbody></table></div>{more}"


def _table_cell(text: str, numeric: bool) -> str:
    kind = " class=num" if numeric else " class=long" if len(text) > _LONG else ""
    return f"<td{kind}>{escape(text)}</td>"


def _row_bar(row: Mapping[str, Any], measured: str | None, low: float, high: float) -> str:
    """The interval of a row around its last number."""
    value, first, last = row.get(measured or ""), row.get("low"), row.get("high")
    return (
        "" if value is None or first is None or last is None else interval_bar(value, (first, last), low, high, "val")
    )


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(_words(name))}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<div class=scroll><table class=pairs><tbody>{rows}</tbody></table></div>" if rows else ""


def _gallery(pictures: Pictures) -> str:
    figures = ""
    for caption, path in pictures:
        source, width = _embedded(Path(path))
        if source:
            kind = " class=pixels" if width and width <= 128 else ""
            picture = f'<img{kind} src="{source}" alt="{escape(caption)}">'
        else:
            picture = f"<span class=missing>{escape(Path(path).name)} is missing or not a picture</span>"
        size = "wide" if width and width > 400 else "small"
        figures += f'<figure class="picture {size}">{picture}<figcaption>{escape(caption)}</figcaption></figure>'
    return f"<div class=gallery>{figures}</div>" if figures else ""


def _embedded(path: Path) -> tuple[str, int | None]:
    """A picture file as a data address, and its width if it is a PNG; ("", None) where there is no picture."""
    try:
        data = path.read_bytes()
    except OSError:
        return "", None
    kind = next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), None)
    if kind is None:
        return "", None
    width = struct.unpack(">I", data[16:20])[0] if kind == "png" and len(data) >= 24 else None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width


def _commands(commands: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{escape(what)}</dt><dd><code>{escape(command)}</code></dd>" for what, command in commands)
    return f"<dl class=commands>{items}</dl>" if items else ""


def _provenance(run: RunDirectory) -> str:
    env = run.read_env()
    machine = env.get("machine", {})
    git = env.get("git")
    pairs = {
        "Command": shlex.join(env.get("command", [])),
        "Machine": ", ".join(
            text
            for text in (
                str(machine.get("cpu", "")),
                f"{machine['cores']} cores" if "cores" in machine else "",
                f"{machine['memory_bytes'] / 2**30:.1f} GiB" if "memory_bytes" in machine else "",
            )
            if text
        ),
        "System": f"{env.get('platform', '')}, Python {env.get('python', '')}",
        "Commit": f"{git['commit']}{' with local changes' if git['changed'] else ''}"
        if git
        else "not in a git repository",
        **env.get("choices", {}),
        "Versions": ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items()),
    }
    pairs = {key: value for key, value in pairs.items() if value not in ("", None)}
    config = run.config.read_text(encoding="utf-8") if run.exists() else ""
    return (
        f"<details open><summary>Environment</summary>{_pairs(pairs)}</details>"
        f"<details><summary>Configuration</summary><pre>{escape(config)}</pre></details>"
    )


# ------------------------------------------------------------------------------------------------------------- words

_SHARES = ("accuracy", "recall", "precision", "f1", "error_rate", "iou", "map", "map50", "map75", "auc", "exact_match")
_WORDS = {
    "lr": "learning rate",
    "f1": "F1",
    "top5": "top-5",
    "iou": "IoU",
    "map": "mAP",
    "map50": "mAP at IoU 0.5",
    "map75": "mAP at IoU 0.75",
    "auc": "AUC",
    "s": "(s)",
    "ms": "(ms)",
}


def _is_share(report: ReportData, name: str) -> bool:
    """Whether a metric is a share of one, shown in per cent."""
    return _named_share(name) and 0 <= report.metrics[name] <= 1


def _named_share(name: str) -> bool:
    short = name.rpartition("/")[2].lower()
    return any(part == short or short.endswith(f"_{part}") for part in _SHARES)


def _figure(value: float, share: bool) -> str:
    return f"{100 * value:.2f} %" if share else escape(number(value))


def _seconds(seconds: float | None) -> str:
    """Two digits below ten seconds, whole seconds above."""
    if seconds is None:
        return ""
    return f"{number(float(f'{seconds:.2g}') if seconds < 10 else round(seconds))} s"


def _words(name: str, *, capital: bool = True) -> str:
    """`macro_f1` -> `Macro F1`; names with other marks than underscores stay."""
    if not name.replace("_", "").replace("/", "").replace(" ", "").isalnum():
        return name
    words = " ".join(_WORDS.get(word, word) for word in name.replace("_per_s", "_per_second").split("_"))
    return words[:1].upper() + words[1:] if capital and words[1:2].islower() else words


def _cell(column: str, value: Any) -> str:
    return _figure(value, True) if _is_number(value) and 0 <= value <= 1 and _named_share(column) else _shown(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(entry)}" for name, entry in value.items() if entry is not None)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# -------------------------------------------------------------------------------------------------------------- card


def write_card(run: RunDirectory, report: ReportData) -> Path:
    """Write `card.md` of a run (what it is, what it reached, how to use it) and return its path.

    Raises:
        StorageError: it cannot be written; an older one is whole.
    """
    lines = [f"# {_markdown(report.title)}", "", _markdown(report.summary), ""]
    lines += [f"- {_markdown(_words(name))}: {_markdown(_shown(value))}" for name, value in report.facts.items()]
    if report.selected_by:
        lines.append(f"- Weights: {_markdown(report.selected_by)}")
    if report.metrics:
        lines += [
            "",
            "## What it reached",
            "",
            f"| metric ({_markdown(report.split)}) | value | 95 % interval |",
            "|---|---|---|",
        ]
        for name, value in report.metrics.items():
            share, interval = _is_share(report, name), report.intervals.get(name)
            ends = f"{_figure(interval[0], share)} to {_figure(interval[1], share)}" if interval else ""
            lines.append(f"| {_markdown(_words(name, capital=False))} | {_figure(value, share)} | {ends} |")
    if report.baselines and report.headline is not None and report.headline in report.metrics:
        share = _is_share(report, report.headline)
        lines += [
            "",
            f"Beside simpler methods on the same split ({_markdown(_words(report.headline, capital=False))}):",
            "",
        ]
        lines += ["| method | value | 95 % interval |", "|---|---|---|"]
        for row in report.baselines:
            ends = f"{_figure(row.interval[0], share)} to {_figure(row.interval[1], share)}" if row.interval else ""
            lines.append(f"| {_markdown(row.name)} | {_figure(row.value, share)} | {ends} |")
    if report.warnings:
        lines += ["", "## Before you rely on it", "", *(f"- {_markdown(text)}" for text in report.warnings)]
    lines += ["", "## How to use it", ""]
    for what, command in report.commands or default_commands(run):
        lines += [f"{_markdown(_words(what))}:", "", *(f"    {line}" for line in command.splitlines()), ""]
    lines += [f"Curves, mistakes and configuration: `{run.report.name}`.", ""]
    files.write_text(run.card, "\n".join(lines))
    return run.card


def _markdown(text: str) -> str:
    """Text that Markdown and the HTML in it leave alone, on one line."""
    text = " ".join(str(text).split())
    for mark in "\\`*_[]|~#":
        text = text.replace(mark, "\\" + mark)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
