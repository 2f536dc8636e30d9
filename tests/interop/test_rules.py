"""Rules turn names and tensors into ours and back, and every layout's are a bijection."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.core import discovery
from layerwise.core.config import parse_component
from layerwise.core.errors import CheckpointError
from layerwise.interop.layouts import Layout, layouts
from layerwise.interop.rules import (
    TRANSPOSE,
    Concat,
    Constant,
    CoveringConvolution,
    Permute,
    Rule,
    Tie,
    rule,
    to_ours,
    to_theirs,
)


def tiny(layout: Layout) -> Any:
    """The component of the tiny preset."""
    (name,) = [n for n, (m, _) in discovery.catalogue("model").items() if m == layout.module and n.endswith("-tiny")]
    return parse_component("model", {"name": name}, "model")


@pytest.mark.parametrize("layout", layouts(), ids=lambda entry: f"{entry.library}-{entry.module.split('.')[-1]}")
def test_every_map_is_a_bijection_on_the_tiny_preset(layout: Layout) -> None:
    model = tiny(layout)
    torch.manual_seed(0)
    network: nn.Module = model.build()
    ours: dict[str, Tensor] = {name: torch.randn(v.shape) for name, v in network.state_dict().items()}
    rules = layout.rules(model.config)
    if not rules:  # names are ours
        return
    theirs = to_theirs(rules, ours)
    assert (theirs.unknown, theirs.incomplete) == ([], [])
    copies = sum(
        (len(entry.theirs) - 1) * ours[name.replace("*", end)].numel()
        for entry in rules
        if isinstance(entry.operation, Tie)
        for name in entry.ours
        for end in ("weight", "bias")
        if name.replace("*", end) in ours
    )
    constants = {name for entry in rules if isinstance(entry.operation, Constant) for name in entry.theirs}
    made = sum(value.numel() for name, value in theirs.state.items() if name not in constants)
    assert made - copies == sum(v.numel() for v in ours.values())
    back = to_ours(rules, theirs.state)
    assert (back.unknown, back.incomplete) == ([], [])
    assert back.state.keys() == ours.keys()
    assert all(torch.equal(value, back.state[name]) for name, value in ours.items())


@pytest.mark.parametrize(
    ("entry", "theirs"),
    [
        (rule("a", "b"), [torch.arange(6.0)]),
        (rule("a", "b", TRANSPOSE), [torch.arange(6.0).view(2, 3)]),
        (rule("a", "b", Permute((2, 0, 1))), [torch.arange(24.0).view(2, 3, 4)]),
        (rule("a", "b", CoveringConvolution((3, 4))), [torch.arange(48.0).view(2, 2, 3, 4)]),
        (rule(("a", "b", "c"), "d", Concat(1)), [torch.full((2, 3), float(i)) for i in range(3)]),
        (rule(("a", "b"), "c", Tie()), [torch.ones(3), torch.ones(3)]),
        (rule("a", (), Constant(lambda: torch.arange(4.0))), [torch.arange(4.0)]),
    ],
    ids=["rename", "transpose", "permute", "covering convolution", "concat", "tie", "constant"],
)
def test_operations_are_undone(entry: Rule, theirs: list[Tensor]) -> None:
    state = dict(zip(entry.theirs, theirs, strict=True))
    mapped = to_ours([entry], state)
    assert set(mapped.state) == set(entry.ours)
    back = to_theirs([entry], mapped.state)
    assert back.state.keys() == state.keys()
    assert all(torch.equal(value, back.state[name]) for name, value in state.items())


def test_joined_tensors_keep_their_order() -> None:
    parts = {"q": torch.zeros(2, 1), "k": torch.ones(2, 1), "v": torch.full((2, 1), 2.0)}
    found = to_ours([rule(("q", "k", "v"), "qkv", Concat(0))], parts).state["qkv"]
    assert found[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_transposed_matrix_is_transposed() -> None:
    found = to_ours([rule("a", "b", TRANSPOSE)], {"a": torch.arange(6).view(2, 3)}).state["b"]
    assert found.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_covering_convolution_is_a_linear_layer() -> None:
    weight, maps = torch.randn(5, 2, 3, 4, dtype=torch.float64), torch.randn(6, 2, 3, 4, dtype=torch.float64)
    found = to_ours([rule("a", "b", CoveringConvolution((3, 4)))], {"a": weight}).state["b"]
    wanted = nn.functional.conv2d(maps, weight)[:, :, 0, 0]
    torch.testing.assert_close(nn.functional.linear(maps.flatten(1), found), wanted, rtol=1e-10, atol=1e-10)


def test_a_star_stands_for_the_same_text_on_both_sides() -> None:
    found = to_ours([rule("old.*", "new.0.*")], {"old.weight": torch.ones(1), "old.bias": torch.zeros(1)})
    assert set(found.state) == {"new.0.weight", "new.0.bias"}


def test_what_no_rule_has_and_what_is_incomplete_is_named() -> None:
    mapped = to_ours([rule(("q", "k"), "qk", Concat(0))], {"q": torch.ones(1), "other": torch.ones(1)})
    assert mapped.state == {}
    assert mapped.incomplete == ["k"]
    assert mapped.unknown == ["other", "q"]


def test_tensors_that_should_be_one_and_differ_are_refused() -> None:
    with pytest.raises(CheckpointError, match="differ"):
        to_ours([rule(("a", "b"), "c", Tie())], {"a": torch.ones(2), "b": torch.zeros(2)})


def test_every_layout_is_of_a_model_that_there_is() -> None:
    modules = {module for module, _ in discovery.catalogue("model").values()}
    assert layouts()
    assert {entry.module for entry in layouts()} <= modules
