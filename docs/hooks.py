"""Build steps of the docs: tables of measured results where a page asks for them, formulas as MathML.

A page has `<!-- results NAME -->` where results/NAME.json belongs and `<!-- benchmarks -->` where the files of
bench/results belong, so that no figure is written by hand; `<!-- compared METRIC ...: NAME ... -->` becomes one table
with a row for each results file. Where there is no such file the page says "not run".
"""

import html
import json
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parent.parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put result tables in place of their marks."""
    markdown = re.sub(
        r"<!-- results ([\w-]+) -->", lambda mark: results_table(ROOT / "results" / f"{mark[1]}.json"), markdown
    )
    markdown = re.sub(
        r"<!-- compared ([\w ]+): ([\w ]+) -->",
        lambda mark: compared_recipes(ROOT / "results", mark[1].split(), mark[2].split()),
        markdown,
    )
    return markdown.replace("<!-- benchmarks -->", benchmark_tables(ROOT / "bench" / "results"))


def on_page_content(content: str, **_: Any) -> str:
    """Formulas `\\(...\\)` and `\\[...\\]`, as pymdownx.arithmatex marks them, to MathML."""

    def inline(found: re.Match[str]) -> str:
        return convert(html.unescape(found[1]).strip())

    def block(found: re.Match[str]) -> str:
        return convert(html.unescape(found[1]).strip(), display="block")

    content = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', inline, content, flags=re.DOTALL)
    return re.sub(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', block, content, flags=re.DOTALL)


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: Any) -> str:
    """Four significant digits; whole numbers with separators; everything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def between(interval: Any) -> str:
    """A 95 % interval as text; empty for none."""
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if isinstance(interval, list) and len(interval) == 2 else ""


def results_table(path: Path) -> str:
    """Metrics over seeds, the classical methods beside them, and where they come from."""
    if not path.is_file():
        return f"*Not run here: `layerwise reproduce {path.stem}` writes these figures.*"
    found = json.loads(path.read_text(encoding="utf-8"))
    runs, first = found["runs"], found["runs"][0]
    several = len(runs) > 1
    header = [
        "metric",
        *(["mean", "median", "lowest", "highest"] if several else [f"seed {first['seed']}", "95 % interval"]),
    ]
    rows: list[list[str]] = []
    for name, median in found["median"].items():
        values = [run["metrics"][name] for run in runs if name in run["metrics"]]
        interval = between(first.get("intervals", {}).get(name.partition("/")[2]))
        cells = [found["mean"][name], median, min(values), max(values)] if several else [median]
        rows.append([name, *map(number, cells), *([] if several else [interval])])
    parts = [table(header, rows)]
    if first.get("baselines"):
        beside = [[row["name"], number(row["value"]), between(row.get("interval"))] for row in first["baselines"]]
        parts.append("On the same split, classical methods:\n\n" + table(["method", "value", "95 % interval"], beside))
    middle = sorted(run["training_s"] for run in runs)[len(runs) // 2]
    machine = found["machine"].get("machine", {})
    parts.append(
        f"{f'{len(runs)} seeds. ' if several else ''}Training took {middle:.4g} s on "
        f"{machine.get('cores', '?')} cores ({machine.get('cpu', 'unknown')}), "
        f"torch {found['machine'].get('versions', {}).get('torch', '?')}; weights: {first['selected_by']}. "
        f"`{found['command']}` wrote `results/{path.name}`."
    )
    return "\n\n".join(parts)


def compared_recipes(folder: Path, metrics: list[str], recipes: list[str]) -> str:
    """A row for each recipe: test metrics (the median over seeds), time, and the judge that measured them, if any."""
    rows: list[list[str]] = []
    for recipe in recipes:
        path = folder / f"{recipe}.json"
        if not path.is_file():
            rows.append([f"`{recipe}`", *["not run"] * len(metrics), "", ""])
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        first = found["runs"][0]
        judge = f"{first['judge_fingerprint']}, {first['judged']:,} pictures" if "judge_fingerprint" in first else ""
        values = [found["median"].get(f"test/{name}") for name in metrics]
        cells = ["not measured" if value is None else number(value) for value in values]
        rows.append([f"`{recipe}`", *cells, f"{first['training_s']:,.0f} s", judge])
    return table(["recipe", *(name.replace("_", " ") for name in metrics), "training", "judge"], rows)


def seconds(value: float) -> str:
    """A time with the unit that fits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1:
            return f"{value * factor:.4g} {unit}"
    return f"{value * 1e9:.4g} ns"


def benchmark_tables(folder: Path) -> str:
    """One section a machine and workload: every side's time, and ours against the fastest peer."""
    parts: list[str] = []
    for path in sorted(folder.glob("*/*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        machine = found["machine"]
        rows: list[list[str]] = []
        for row in found["rows"]:
            if "not_run" in row:
                rows.append([row["name"], "not run", "", "", row["not_run"]])
                continue
            rate = f"{row['rate']:,.4g} {row['rate_unit']}" if "rate" in row else ""
            spread = " to ".join(seconds(value) for value in row["unit_s_quartiles"])
            rows.append([row["name"], seconds(row["unit_s"]), spread, rate, row["note"]])
        header = ["side", f"median a {found['unit']}", "quartiles", "rate", "note"]
        lines = [compared(comparison) for comparison in found["comparisons"]]
        lines += [f"- {each['name']}: at most {seconds(each['most_s'])}: {each['verdict']}" for each in found["limits"]]
        noisy = " Other work was running meanwhile." if found["other_work"]["noisy"] else ""
        threads = f"{found['threads']} thread{'s' * (found['threads'] != 1)}"
        facts = f"{machine['processor']}, {machine['cores']} cores, {threads}, {found['made'][:10]}.{noisy}"
        parts.append(f"## {path.stem}\n\n{found['title']}. {facts}\n\n{table(header, rows)}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) or "*Not run here: `make bench` writes these figures.*"


def compared(comparison: dict[str, Any]) -> str:
    """A ratio, its spread and its goal."""
    ours, kind, goal = comparison["ours"], comparison["kind"], comparison["goal"]
    wanted = "" if goal is None else f"; goal {'at least' if kind == 'speedup' else 'at most'} {goal:g}"
    if comparison["verdict"] == "not run":
        return f"- {ours} against {' or '.join(comparison['peers'])}: not run{wanted}"
    low, high = comparison["ratio_quartiles"]
    verdict = f": {comparison['verdict']}" if comparison["verdict"] else ""
    spread = f"{comparison['ratio']:.3f} ({low:.3f} to {high:.3f})"
    return f"- {kind} of {ours} against {comparison['peer']}: {spread}{wanted}{verdict}"
