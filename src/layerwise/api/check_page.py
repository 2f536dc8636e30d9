"""The page of `layerwise check`: every finding with examples, what was looked at, the classes. One file, no network.

Whatever comes from data (names, texts, labels) is escaped.
"""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from layerwise.api.check import Checked
from layerwise.data.checks import Example, Finding
from layerwise.data.checks_files import files_of
from layerwise.data.checks_scan import NO_LABEL, Pool
from layerwise.data.table import Schema
from layerwise.track import files
from layerwise.track.charts import escape, number
from layerwise.track.page import page

_MOST_EXAMPLES, _MOST_GROUPS, _MOST_A_GROUP, _MOST_LINES = 24, 12, 6, 40
_MOST_ROWS, _MOST_ROW_GROUPS = 10, 5  # of a table
_MOST_CLASSES = 100
_MOST_COLUMNS = 12
_LONGEST = 240  # characters of a text
_SIDE = 160  # pixels of a picture
_TITLES = {
    "unreadable": "Unreadable files", "empty": "No examples", "label_range": "Labels out of range",
    "one_class": "One class", "absent_class": "Absent classes", "uneven_classes": "Uneven classes",
    "missing_values": "Missing values", "missing_target": "Missing targets", "not_finite": "Values that are not finite",
    "duplicates_train": "Copies in train", "duplicates_val": "Training examples in the validation part",
    "duplicates_test": "Training examples in the test part", "duplicates_val_test": "Validation examples in test",
    "near_duplicates_train": "Near copies in train", "near_duplicates_val": "Near copies of training examples in val",
    "near_duplicates_test": "Near copies of training examples in test", "data_set": "Told by the data set",
    "label_noise": "Labels that look wrong", "few_a_class": "Small classes", "no_val": "No validation part",
    "no_test": "No test part", "task": "Does not fit the task", "constant_column": "Constant column",
    "identifier_column": "Identifier", "leaking_column": "Column that gives the target away",
    "leaking_files": "Kind of file that goes with the class", "stand_in_value": "Value that may stand for nothing",
    "blank_pictures": "Pictures of one colour", "near_conflicting_labels": "Near copies with different labels",
    "conflicting_labels": "Equal inputs with different labels", "elongated_pictures": "Pictures of another shape",
    "near_duplicates_val_test": "Near copies of validation examples in test",
}  # fmt: skip
_STYLE = """
.level{font-size:12px;font-weight:600;border-radius:99px;padding:2px 10px;margin-left:10px;vertical-align:2px;
border:1px solid var(--c);color:var(--c);white-space:nowrap}
.error{--c:var(--miss)}.warning{--c:var(--train)}.info{--c:var(--other)}
.finding{border-left:4px solid var(--c)}
.finding>:last-child{margin-bottom:0}
.headline.error strong,.headline.warning strong{color:var(--c)}
.groups{display:flex;flex-wrap:wrap;gap:12px}
.group{display:flex;flex-wrap:wrap;gap:12px;border:1px solid var(--line);border-radius:10px;padding:10px;
break-inside:avoid;max-width:100%}
.picture.sample{width:108px}
.sample img{width:100%}
.tag{color:var(--ink);font-weight:600}
blockquote{margin:0;padding:8px 12px;border-left:3px solid var(--line);flex:1 1 260px;min-width:0;break-inside:avoid}
blockquote p{margin:0 0 4px;overflow-wrap:anywhere;white-space:pre-wrap}
blockquote small{display:block}
.lines{margin:0;padding-left:20px;font-size:13px;overflow-wrap:anywhere}
.finding td:first-child{white-space:nowrap}
td.bar{width:160px}
td.bar svg{height:10px;fill:var(--c)}
@media (max-width:480px){.picture.sample{width:calc(50% - 6px)}.group{width:100%}}
@media print{.finding{border-left-width:4px;padding-left:10pt}.finding p{break-after:avoid}.finding td,
.finding th{font-size:7.5pt;padding-right:6pt}}
"""


def write_page(checked: Checked, out: Path) -> None:
    """Write the page.

    Raises:
        StorageError: it cannot be written; an older one is whole.
    """
    parts = [
        _top(checked),
        *(_finding(checked, finding) for finding in checked.findings),
        _classes(checked.pool),
        _looked(checked),
    ]
    files.write_text(out, page(f"Check of {escape(checked.name)}", "\n".join(part for part in parts if part), _STYLE))


def _top(checked: Checked) -> str:
    levels = Counter(finding.level for finding in checked.findings)
    told = [f"{levels[level]} {level}{'s' * (levels[level] != 1)}" for level in ("error", "warning", "note")]
    facts: dict[str, str] = {}
    if (pool := checked.pool) is not None:
        for name in pool.parts:
            facts[name] = f"{len(pool.examples(name)):,} examples"
        if pool.pictures is not None:
            seen = pool.pictures
            facts["pictures"] = f"{seen.width} x {seen.height}, {'grey' if seen.channels == 1 else 'colour'}"
        if pool.labels is not None:
            facts["classes"] = f"{len(pool.splits.class_names or set(pool.labels.tolist()) - {NO_LABEL}):,}"
    facts["took"] = f"{number(float(f'{sum(seconds for _, _, seconds in checked.looked):.2g}'))} s"
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    count = len(checked.findings)
    worst = checked.findings[0].level if count else "nothing"
    kind = {"error": "error", "warning": "warning"}.get(worst, "info")
    intro = f"<div class=intro><h1>Check of {escape(checked.name)}</h1><p>{escape(', '.join(told))}</p></div>"
    headline = f"<div class='headline {kind}'><span>worst finding</span><strong>{worst}</strong></div>"
    return f"<header>{intro}{headline}<dl>{rows}</dl></header>"


def _finding(checked: Checked, finding: Finding) -> str:
    title = _TITLES.get(finding.code, finding.code.replace("_", " ").capitalize())
    kind = "info" if finding.level == "note" else finding.level
    badge = f"<span class='level {kind}'>{finding.level}</span>"
    body = f"<h2>{escape(title)}{badge}</h2><p>{escape(finding.message)}</p>"
    pool = checked.pool
    if pool is not None and (seen := [example for example in finding.examples if pool.index(example) is not None]):
        body += _examples(pool, seen)
    if finding.lines:
        body += f"<ul class=lines>{''.join(f'<li>{escape(line)}</li>' for line in finding.lines[:_MOST_LINES])}</ul>"
        if len(finding.lines) > _MOST_LINES:
            body += f"<p class=note>The first {_MOST_LINES} of {len(finding.lines):,}; --json has all.</p>"
    return f"<section class='finding {kind}'>{body}</section>"


def _examples(pool: Pool, examples: Sequence[Example]) -> str:
    """Some of the examples, those of one group in one frame."""
    groups = [list(members) for _, members in groupby(examples, key=lambda example: example.group)]
    grouped = examples[0].group is not None
    most_groups, most = (_MOST_ROW_GROUPS, _MOST_ROWS) if pool.table else (_MOST_GROUPS, _MOST_EXAMPLES)
    shown = [group[:_MOST_A_GROUP] for group in groups[:most_groups]] if grouped else [groups[0][:most]]
    begins = pool.begins
    listed = [begins[example.part] + example.position for group in shown for example in group]
    drawn = iter(_rows(pool, listed) if pool.table else _figures(pool, listed, [e.note for g in shown for e in g]))
    if pool.table:
        body = "".join(f"<tr>{next(drawn)}</tr>" for _ in listed)
        body = f"<div class=scroll><table><thead><tr>{_head(pool)}</tr></thead><tbody>{body}</tbody></table></div>"
    elif grouped:
        framed = "".join(f"<div class=group>{''.join(next(drawn) for _ in group)}</div>" for group in shown)
        body = f"<div class=groups>{framed}</div>"
    else:
        body = f"<div class=groups>{''.join(drawn)}</div>"
    count, total = (len(shown), len(groups)) if grouped else (len(listed), len(examples))
    if count < total or len(listed) < len(examples):
        what = "groups" if grouped else "examples"
        body += f"<p class=note>{count:,} of {total:,} {what} are shown; --json has all.</p>"
    return body


def _figures(pool: Pool, listed: Sequence[int], notes: Sequence[str]) -> list[str]:
    names = files_of(pool)
    made: list[str] = []
    for at, note in zip(listed, notes, strict=True):
        label = pool.class_name(at)
        where = f"{pool.parts[pool.part[at]]} {pool.sample_ids[at]}" + (f" · {label}" if label else "")
        told = [f"<span class=tag>{escape(where)}</span>"]
        told += [escape(note)] if note else []
        told += [escape("/".join(Path(names[at]).parts[-2:]))] if names is not None else []
        caption = "<br>".join(told)
        if pool.texts is not None:
            text = pool.texts[at]
            cut = text[:_LONGEST] + ("..." if len(text) > _LONGEST else "")
            made.append(f"<blockquote><p>{escape(cut)}</p><small>{caption}</small></blockquote>")
            continue
        image = ""
        if pool.pictures is not None:
            examples = pool.examples(pool.parts[pool.part[at]])
            image = _image(examples.collate(torch.tensor([int(pool.position[at])]))["image"][0], where)
        made.append(f'<figure class="picture sample">{image}<figcaption>{caption}</figcaption></figure>')
    return made


def _image(pixels: Tensor, alt: str) -> str:
    """A picture uint8 [C, H, W] as a data address; small ones without loss."""
    channels, height, width = pixels.shape
    pixels = pixels.to(torch.uint8)
    array = pixels[:3].permute(1, 2, 0).numpy() if channels >= 3 else pixels[0].numpy()
    picture = Image.fromarray(array)
    small = max(height, width) <= _SIDE // 2
    picture.thumbnail((_SIDE, _SIDE))
    held = io.BytesIO()
    picture.save(held, "PNG" if small else "JPEG", **({} if small else {"quality": 85}))
    source = f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(held.getvalue()).decode()}"
    return f'<img{" class=pixels" if small else ""} src="{source}" alt="{escape(alt)}">'


def _columns(pool: Pool) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Names of the numeric columns, and of the categories with their values, as many as are shown."""
    described = pool.splits.extras.get("table")
    if described is None:
        widths = [pool.table[key].shape[1] if key in pool.table else 0 for key in ("numeric", "categories")]
        numeric = [f"column {i}" for i in range(widths[0])]
        return numeric[:_MOST_COLUMNS], [(f"category {i}", []) for i in range(widths[1])][:_MOST_COLUMNS]
    schema = Schema.from_json(described)
    categories = [(name, list(values)) for name, values in schema.categories.items()]
    return schema.numeric_names[:_MOST_COLUMNS], categories[:_MOST_COLUMNS]


def _head(pool: Pool) -> str:
    numeric, categories = _columns(pool)
    ends = (["label"] if pool.labels is not None else []) + (["target"] if "target" in pool.table else [])
    return "".join(f"<th>{escape(name)}</th>" for name in ["row", *ends, *numeric, *(name for name, _ in categories)])


def _rows(pool: Pool, listed: Sequence[int]) -> list[str]:
    numeric, categories = _columns(pool)
    made: list[str] = []
    for at in listed:
        cells = [f"{pool.parts[pool.part[at]]} {pool.sample_ids[at]}"]
        cells += [pool.class_name(at)] if pool.labels is not None else []
        cells += [str(pool.table["target"][at].tolist())] if "target" in pool.table else []
        if numeric:
            values = pool.table["numeric"][at, : len(numeric)].tolist()
            cells += ["" if value != value else number(value) for value in values]
        for place, (_, values) in enumerate(categories):
            value = int(pool.table["categories"][at, place])
            cells.append("" if value == 0 else values[value - 1] if value <= len(values) else str(value))
        made.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    return made


def _classes(pool: Pool | None) -> str:
    """How many examples of each class lie in which part."""
    if pool is None or pool.labels is None:
        return ""
    counts: dict[str, Counter[int]] = {name: Counter() for name in pool.parts}
    names: dict[int, str] = {}
    for part, label in zip(pool.part.tolist(), pool.labels.tolist(), strict=True):
        counts[pool.parts[part]][label] += 1
    for at, label in enumerate(pool.labels.tolist()):
        names.setdefault(label, pool.class_name(at) or "none")
    first = pool.parts[0]
    most = max(counts[first].values())
    order = sorted(names)
    head = "".join(f"<th class=num>{escape(part)}</th>" for part in pool.parts)
    body = ""
    for label in order[:_MOST_CLASSES]:
        width = 100 * counts[first][label] / most
        rect = f'<rect width="{width:.1f}" height="10"/>'
        bar = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" class=val>{rect}</svg>'
        cells = "".join(f"<td class=num>{counts[part][label]:,}</td>" for part in pool.parts)
        body += f"<tr><th scope=row>{escape(names[label])}</th><td class=bar>{bar}</td>{cells}</tr>"
    table = f"<table class=full><thead><tr><th>class</th><th class=bar></th>{head}</tr></thead><tbody>{body}</tbody>"
    more = f"<p class=note>The first {_MOST_CLASSES} of {len(order):,}.</p>" if len(order) > _MOST_CLASSES else ""
    return f"<section><h2>Classes</h2><div class=scroll>{table}</table></div>{more}</section>"


def _looked(checked: Checked) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(what)}</th><td>{escape(on)}</td><td class=num>{seconds:.2f} s</td></tr>"
        for what, on, seconds in checked.looked
    )
    return f"<section><h2>What was looked at</h2><div class=scroll><table><tbody>{rows}</tbody></table></div></section>"
