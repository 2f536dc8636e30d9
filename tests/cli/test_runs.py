"""What `layerwise runs diff` prints."""

from layerwise.cli.runs import difference_lines

SHA = "0123456789" * 4


def test_two_columns_with_the_change_of_metrics() -> None:
    lines = difference_lines(
        "one",
        "two",
        {
            "config": {"epochs": ("3", "5"), "clip": ("null", "1.0")},
            "metrics": {"test/accuracy": (0.5, 0.75), "val/loss": (1.0, None)},
            "environment": {"git.commit": (SHA, SHA[::-1])},
        },
    )
    assert lines == [
        "                          one           two",
        "config",
        "  epochs                    3             5",
        "  clip                   null           1.0",
        "metrics",
        "  test/accuracy           0.5          0.75  +0.25",
        "  val/loss                  1             -",
        "environment",
        "  git.commit     012345678901  987654321098",
    ]


def test_another_component_is_told_without_the_options_that_only_one_has() -> None:
    rows = {
        "optimizer.name": ("AdamW", "Muon"),
        "optimizer.lr": ("0.1", "0.2"),
        "optimizer.beta1": ("0.9", None),
        "epochs": ("1", "2"),
        "optimizer.momentum": (None, "0.95"),
    }
    lines = difference_lines("a", "b", {"config": rows})
    assert [line.split()[0] for line in lines[1:]] == ["config", "optimizer.name", "optimizer.lr", "epochs"]


def test_an_option_that_is_unset_in_one_and_unknown_in_the_other_is_no_difference() -> None:
    assert difference_lines("a", "b", {"config": {"new": (None, "null")}}) == ["a and b do not differ."]
