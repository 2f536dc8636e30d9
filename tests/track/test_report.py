"""The report: self-contained, escaped, complete."""

import base64
import math
import re
import struct
import zlib
from html.parser import HTMLParser

import pytest

from layerwise.track.charts import (
    Scatter,
    Series,
    class_keys,
    heat_map,
    line_chart,
    log_ticks,
    nice_ticks,
    number,
    scatter_chart,
    wants_log,
)
from layerwise.track.report import Baseline, ReportData, Section, write_card, write_report
from layerwise.track.run_directory import RunDirectory

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>`|*_"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Elements, texts and whether tags nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closes nothing"

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(width) for _ in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "lenet5-1")
    run.create("model: lenet5  # <b>\n")
    log = run.metrics_log()
    for step in range(1, 201):
        log.append({"step": step, "time_s": step / 10, "train/loss": 2 / step, "lr": 0.1 * 0.95**step, "flag": True})
        if step % 50 == 0:
            log.append({"step": step, "val/loss": 3 / step, "val/accuracy": 1 - 1 / step})
    log.append({"step": 200, "train/loss": math.nan, "test/accuracy": 0.9})
    log.close()
    run.set_status("finished", 200)
    return run


def report(tmp_path, **changes):
    picture = tmp_path / "digit.png"
    picture.write_bytes(png(8, 8))
    values = {
        "title": "LeNet-5 on digits",
        "summary": "Names digits.",
        "facts": {"parameters": 61706},
        "headline": "accuracy",
        "metrics": {"accuracy": 0.9861, "loss": 0.0412},
        "intervals": {"accuracy": (0.9680, 0.9941)},
        "seconds": 22.41,
        "baselines": [
            Baseline(name="SVM", value=0.9917, interval=(0.9758, 0.9972), seconds=0.14),
            Baseline(name="most frequent class", value=0.1, interval=(0.07, 0.14), seconds=0.001),
        ],
        "details": {
            "confusion": [[30, 2], [1, 27]],
            "class_names": ["cat", "dog"],
            "per_class": [{"class": "cat", "count": 32, "recall": 30 / 32, "low": 0.8, "high": 0.98}],
            "count": 60,
            "words": [{"word": "a", "n": 3}],
            "temperature": 0.7,
        },
        "pictures": [("a sample", picture)],
        "sections": [
            Section(title="What each layer learned", text="A probe.", rows=[{"layer": "conv1", "accuracy": 0.9}])
        ],
        "throughput": {"images_per_s": 5123.4},
        "selected_by": "best val/accuracy, step 150",
        "warnings": ["Two duplicates."],
        "commands": [("name new pictures", "layerwise predict runs/lenet5-1 a.png")],
    }
    return ReportData(**{**values, **changes})


def test_page_loads_nothing_and_runs_nothing(run, tmp_path):
    text = write_report(run, report(tmp_path)).read_text()
    page = Page(text)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert "href" not in attributes
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_page_says_what_was_reached(run, tmp_path):
    text = Page(write_report(run, report(tmp_path)).read_text()).text
    for expected in (
        "LeNet-5 on digits", "98.61 %", "96.80 % to 99.41 %", "61,706", "SVM", "99.17 %", "0.14 s", "22 s",
        "behind SVM", "overlap", "best val/accuracy, step 150", "Two duplicates.", "5,123", "What each layer learned",
        "layerwise predict runs/lenet5-1 a.png", "A probe.", "conv1", "model: lenet5  # <b>", "finished, step 200",
        "60 examples", "0.7",
    ):  # fmt: skip
        assert expected in text, expected


def test_verdict_tells_intervals_that_do_not_overlap(run, tmp_path):
    far = [Baseline(name="prior", value=0.1, interval=(0.07, 0.14))]
    text = Page(write_report(run, report(tmp_path, baselines=far)).read_text()).text
    assert "ahead of prior; their intervals do not overlap." in text


def test_lower_is_better_where_said(run, tmp_path):
    rows = [Baseline(name="mean", value=3.0), Baseline(name="linear", value=1.0)]
    data = report(
        tmp_path, headline="rmse", metrics={"rmse": 2.0}, intervals={}, baselines=rows, higher_is_better=False
    )
    text = Page(write_report(run, data).read_text()).text
    assert "behind linear." in text
    assert text.index("linear", text.index("fit in")) < text.index("this network", text.index("fit in"))


def test_every_string_is_escaped(run, tmp_path):
    picture = tmp_path / "x.png"
    picture.write_bytes(png(2, 2))
    run.update_env({HOSTILE: HOSTILE})
    run.write_config(f"model: {HOSTILE}\n")
    log = run.metrics_log()
    log.append({"step": 201, f"train/{HOSTILE}": 1.0, HOSTILE: 2.0})
    log.close()
    run.set_status("stopped", 201, HOSTILE)
    cell = {HOSTILE: HOSTILE, "low": 0.1, "high": 0.2, "recall": 0.15}
    data = ReportData(
        title=HOSTILE, summary=HOSTILE, facts={HOSTILE: HOSTILE}, split=HOSTILE, headline=HOSTILE,
        metrics={HOSTILE: 0.5, "b": 1.0}, intervals={HOSTILE: (0.4, 0.6)},
        baselines=[Baseline(name=HOSTILE, value=0.4, note=HOSTILE)],
        details={"confusion": [[1, 2], [3, 4]], "class_names": [HOSTILE, HOSTILE + "2"], "per_class": [cell],
                 HOSTILE: [cell], "z": HOSTILE},
        pictures=[(HOSTILE, picture), (HOSTILE, tmp_path / HOSTILE.replace("/", ""))], most_wrong=[(HOSTILE, picture)],
        sections=[Section(title=HOSTILE, text=HOSTILE, rows=[cell], pictures=[(HOSTILE, picture)], scatters=[
            Scatter(title=HOSTILE, points=[(0, 0), (1, 1)], labels=[0, 1], names=[HOSTILE, "<i>"], note=HOSTILE)])],
        throughput={HOSTILE: HOSTILE}, selected_by=HOSTILE, warnings=[HOSTILE], commands=[(HOSTILE, HOSTILE)],
    )  # fmt: skip
    page = Page(write_report(run, data).read_text())
    assert not {tag for tag, _ in page.elements} & {"script"}
    assert all(a.get("src", "data:").startswith("data:") for _, a in page.elements)
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert page.texts.count(HOSTILE) > 12
    card = write_card(run, data).read_text()
    prose = "\n".join(line for line in card.splitlines() if not line.startswith("    "))
    assert "<script" not in prose
    assert "<img" not in prose


def test_train_and_validation_share_a_chart(run, tmp_path):
    page = Page(write_report(run, report(tmp_path)).read_text())
    charts = [a["aria-label"] for tag, a in page.elements if tag == "svg" and "aria-label" in a]
    assert [label.split(":")[0] for label in charts] == ["Loss", "Accuracy", "Learning rate", "confusion matrix"]
    assert "training ends at" in charts[0]
    assert "validation ends at 0.015" in charts[0]
    assert "learning rate (log scale)" in page.text


def test_pictures_are_inside_the_page(run, tmp_path):
    page = Page(write_report(run, report(tmp_path)).read_text())
    (picture,) = [a for tag, a in page.elements if tag == "img"]
    assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")) == png(8, 8)
    assert picture["alt"] == "a sample"


def test_missing_picture_is_said(run, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    data = report(tmp_path, pictures=[("one", tmp_path / "gone.png"), ("two", tmp_path / "text.png")])
    text = Page(write_report(run, data).read_text()).text
    assert "gone.png is missing or not a picture" in text
    assert "text.png is missing or not a picture" in text


def test_report_of_a_run_without_anything(tmp_path):
    run = RunDirectory(tmp_path / "r")
    run.create("")
    text = Page(write_report(run, ReportData(title="t", summary="s")).read_text()).text
    assert "layerwise eval" in text
    assert "nan" not in text.lower()


def test_many_classes_are_shown_as_their_mistakes(run, tmp_path):
    counts = [[0] * 100 for _ in range(100)]
    counts[3][7] = 5
    data = report(tmp_path, details={"confusion": counts, "class_names": [f"class {i}" for i in range(100)]})
    text = write_report(run, data).read_text()
    assert 'class="matrix"' not in text
    assert "class 7" in Page(text).text
    assert len(text) < 200_000


def test_card_holds_result_and_commands(run, tmp_path):
    text = write_card(run, report(tmp_path)).read_text()
    assert text.startswith("# LeNet-5 on digits\n")
    assert "| accuracy | 98.61 % | 96.80 % to 99.41 % |" in text
    assert "\n    layerwise predict runs/lenet5-1 a.png\n" in text
    assert "best val/accuracy, step 150" in text


# --------------------------------------------------------------------------------------------------------- charts


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.11, 0.99, [0, 0.25, 0.5, 0.75, 1]),
        (-3, 7, [-5, -2.5, 0, 2.5, 5, 7.5]),
        (0.1, 0.3, [0.1, 0.15, 0.2, 0.25, 0.3]),
        (1e-9, 3e-9, [1e-9, 1.5e-9, 2e-9, 2.5e-9, 3e-9]),
        (0, 4_000_000, [0, 1e6, 2e6, 3e6, 4e6]),
    ],
)
def test_ticks_are_round_and_cover(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("value", [0.0, 5.0, -2e-7, 1e300])
def test_flat_lines_have_ticks(value):
    ticks = nice_ticks(value, value)
    assert ticks[0] < value < ticks[-1] or math.isclose(ticks[0], value)
    assert len(ticks) >= 2


def test_log_scale_for_wide_positive_values_only():
    assert wants_log([1e-5, 1e-2])
    assert not wants_log([0.1, 1.0])
    assert not wants_log([0.0, 1000.0])
    assert log_ticks(2e-4, 0.3) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])


def test_places_in_a_chart_are_proportional():
    """Steps 0, 50, 100 with values 0, 1, 0.5 on ticks from 0 to 1."""
    text = line_chart("Loss", [Series(name="train", points=[(0, 0), (50, 1), (100, 0.5)], style="train")], "loss")
    points = re.search(r'<polyline[^>]*points="([^"]+)"', text)[1]
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points.split())
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 > y1
    assert y2 == pytest.approx((y0 + y1) / 2)


def test_long_lines_are_thinned_and_keep_their_spike():
    points = [(step, 100.0 if step == 7777 else 1.0 + step % 2) for step in range(100_000)]
    text = line_chart("Loss", [Series(name="train", points=points, style="train", noisy=False)], "loss")
    drawn = re.search(r'<polyline[^>]*points="([^"]+)"', text)[1].split()
    assert len(drawn) <= 400
    assert min(float(point.split(",")[1]) for point in drawn) == 12  # the spike reaches the top tick


def test_values_under_the_pointer():
    text = line_chart("Loss", [Series(name="a", points=[(1, 0.5)], style="val")], "loss")
    assert "<title>step 1\na: 0.5</title>" in text


def test_heat_map_names_each_cell():
    text = heat_map(["cat", "dog"], [[3, 1], [0, 4]])
    assert "<title>true cat, predicted dog: 1 (25.0 % of the row)</title>" in text
    assert text.count('class="cell hit"') == 2
    Page(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(61706, "61,706"), (0.98612, "0.9861"), (3e-05, "3e-05"), (1234567.8, "1,234,568"), (2.0, "2"), (math.nan, "nan")],
)
def test_numbers_as_people_read_them(value, expected):
    assert number(value) == expected


def scatter(labels, names=None, points=None):
    points = points or [(float(i), float(i * i)) for i in range(len(labels))]
    return Scatter(title="conv1", points=points, labels=labels, names=names or [str(k) for k in range(max(labels) + 1)])


def test_points_of_a_scatter_chart_are_proportional_and_up_is_more():
    text = scatter_chart(scatter([0, 0, 0], points=[(-1, 0), (0, 1), (1, 4)]))
    path = re.search(r'd="([^"]+)"', text)[1]
    places = [tuple(map(float, place.split())) for place in re.findall(r"M([\d. ]+)h0", path)]
    assert places == [(10.0, 230.0), (120.0, 175.0), (230.0, 10.0)]


def test_classes_beyond_the_colours_share_grey():
    labels = [k for k in range(12) for _ in range(12 - k)]  # 10 and 11 are the rarest
    chart = scatter(labels)
    text = scatter_chart(chart)
    assert len(set(re.findall(r'class="points (k\d)"', text))) == 10
    assert text.count('class="points k-rest"') == 2
    keys = Page(class_keys(chart)).texts
    assert keys == [*map(str, range(10)), "other classes"]


def test_short_class_names_stand_among_their_points():
    assert ">yes</text>" in scatter_chart(scatter([0, 0], names=["yes"]))
    assert "ankle boot</text>" not in scatter_chart(scatter([0, 0], names=["ankle boot"]))


def test_a_scatter_chart_of_one_place_is_drawn():
    text = scatter_chart(scatter([0, 0], points=[(2.0, 2.0), (2.0, 2.0)]))
    assert [element for element, _ in Page(text).elements].count("svg") == 1
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()


def test_a_metric_of_one_value_has_no_chart(run, tmp_path):
    log = run.metrics_log()
    log.append({"step": 201, "val/once": 0.25})
    log.close()
    assert "once" not in Page(write_report(run, report(tmp_path)).read_text()).text.lower()


def test_samples_per_second_are_in_throughput_not_in_a_chart(run, tmp_path):
    log = run.metrics_log()
    for step in (201, 202):
        log.append({"step": step, "samples_per_s": 100.0 * step})
    log.close()
    page = Page(write_report(run, report(tmp_path)).read_text())
    assert not any("amples per" in a.get("aria-label", "") for _, a in page.elements)
