"""Every optimiser against a plain float64 loop written from its paper; the traps of fused steps."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.config import parse_component
from layerwise.core.discovery import catalogue, spec
from layerwise.core.errors import CheckpointError, ConfigError, UnsupportedError
from layerwise.optim.groups import parameter_groups
from layerwise.optim.state import load_named_state, named_state, set_learning_rate

STEPS = 20
SHAPES = {"conv.weight": (6, 5, 3, 3), "matrix.weight": (7, 4), "matrix.bias": (7,), "scale": ()}
DECAY = 0.05


def values(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}


def fresh(dtype: torch.dtype = torch.float64, channels_last: bool = False) -> dict[str, nn.Parameter]:
    start = values(0, dtype)
    if channels_last:
        start["conv.weight"] = start["conv.weight"].contiguous(memory_format=torch.channels_last)
    return {name: nn.Parameter(value) for name, value in start.items()}


def build(name: str, parameters: dict[str, nn.Parameter], **options: Any) -> Any:
    component = parse_component("optimizer", {"name": name, "weight_decay": DECAY, **options}, "optimizer")
    blocks = ["conv", "matrix"]
    return component.build(parameter_groups(parameters.items(), weight_decay=DECAY, blocks=blocks))


def run(optimizer: Any, parameters: dict[str, nn.Parameter], steps: range, odd_strides: bool = False) -> None:
    for step in steps:
        for name, gradient in values(100 + step, next(iter(parameters.values())).dtype).items():
            if odd_strides and gradient.ndim == 4:
                gradient = gradient.contiguous(memory_format=torch.channels_last)
            parameters[name].grad = gradient.clone(memory_format=torch.preserve_format)
        set_learning_rate(optimizer, 1.0 - 0.02 * step)
        optimizer.step()


def sgd(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    g = g + wd * w
    s["m"] = 0.9 * s["m"] + g if "m" in s else g
    return w - lr * s["m"]


def nesterov(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    g = g + wd * w
    s["m"] = 0.9 * s["m"] + g if "m" in s else g
    return w - lr * (g + 0.9 * s["m"])


def adam(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float, decoupled: bool = False) -> float:
    if decoupled:
        w = w - lr * wd * w
    else:
        g = g + wd * w
    s["m"] = 0.9 * s.get("m", 0.0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0.0) + 0.001 * g * g
    return w - lr * (s["m"] / (1 - 0.9**t)) / (math.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)


def adamw(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    return adam(w, g, s, t, lr, wd, decoupled=True)


def amsgrad(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    w = w - lr * wd * w
    s["m"] = 0.9 * s.get("m", 0.0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0.0) + 0.001 * g * g
    s["max"] = max(s.get("max", 0.0), s["v"])
    return w - lr * (s["m"] / (1 - 0.9**t)) / (math.sqrt(s["max"] / (1 - 0.999**t)) + 1e-8)


def rmsprop(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    g = g + wd * w
    s["v"] = 0.99 * s.get("v", 0.0) + 0.01 * g * g
    return w - lr * g / (math.sqrt(s["v"]) + 1e-8)


def rmsprop_centered(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    g = g + wd * w
    s["v"] = 0.99 * s.get("v", 0.0) + 0.01 * g * g
    s["a"] = 0.99 * s.get("a", 0.0) + 0.01 * g
    s["m"] = 0.8 * s.get("m", 0.0) + g / (math.sqrt(s["v"] - s["a"] ** 2) + 1e-8)
    return w - lr * s["m"]


def adagrad(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    g = g + wd * w
    s["v"] = s.get("v", 0.5) + g * g
    return w - lr / (1 + (t - 1) * 0.1) * g / (math.sqrt(s["v"]) + 1e-10)


def adadelta(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    g = g + wd * w
    s["v"] = 0.95 * s.get("v", 0.0) + 0.05 * g * g
    update = math.sqrt(s.get("d", 0.0) + 1e-6) / math.sqrt(s["v"] + 1e-6) * g
    s["d"] = 0.95 * s.get("d", 0.0) + 0.05 * update * update
    return w - lr * update


def lion(w: float, g: float, s: dict[str, float], t: int, lr: float, wd: float) -> float:
    m = s.get("m", 0.0)
    direction = 0.9 * m + 0.1 * g
    s["m"] = 0.99 * m + 0.01 * g
    return w - lr * wd * w - lr * math.copysign(1.0, direction)


CASES: dict[str, tuple[str, dict[str, Any], Callable[..., float], tuple[str, ...]]] = {
    "SGD": ("SGD", {}, sgd, ("fused", "foreach", "loop")),
    "Nesterov": ("SGD", {"nesterov": True}, nesterov, ("fused", "foreach", "loop")),
    "Adam": ("Adam", {}, adam, ("fused", "foreach", "loop")),
    "AdamW": ("AdamW", {}, adamw, ("fused", "foreach", "loop")),
    "AMSGrad": ("AdamW", {"amsgrad": True}, amsgrad, ("fused", "foreach", "loop")),
    "RMSprop": ("RMSprop", {}, rmsprop, ("foreach", "loop")),
    "RMSprop centered": ("RMSprop", {"centered": True, "momentum": 0.8}, rmsprop_centered, ("foreach", "loop")),
    "Adagrad": ("Adagrad", {"initial_accumulator": 0.5, "lr_decay": 0.1}, adagrad, ("fused", "foreach", "loop")),
    "Adadelta": ("Adadelta", {"rho": 0.95}, adadelta, ("foreach", "loop")),
    "Lion": ("Lion", {"lr": 0.01}, lion, ()),
}
VARIANTS = [(case, form) for case, (_, _, _, forms) in CASES.items() for form in (*forms, "auto")]


@pytest.mark.parametrize(("case", "form"), VARIANTS)
def test_twenty_steps_equal_a_plain_float64_loop(case: str, form: str) -> None:
    name, options, rule, forms = CASES[case]
    parameters = fresh(channels_last=True)
    optimizer = build(name, parameters, **options, **({"implementation": form} if forms else {}))
    lr = options.get("lr", spec("optimizer", name).defaults.lr)
    run(optimizer, parameters, range(STEPS))
    for key, value in values(0).items():
        flat, states = value.flatten().tolist(), [dict[str, float]() for _ in range(value.numel())]
        decay = DECAY if value.ndim > 1 else 0.0
        for step in range(STEPS):
            gradients = values(100 + step)[key].flatten().tolist()
            rate = lr * (1.0 - 0.02 * step)
            flat = [rule(w, g, s, step + 1, rate, decay) for w, g, s in zip(flat, gradients, states, strict=True)]
        expected = torch.tensor(flat, dtype=torch.float64).view(value.shape)
        # float64 sums in another order: 1e-12; the roots of Adam's first steps magnify by up to 100
        torch.testing.assert_close(parameters[key].detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
def test_auto_takes_the_fused_step_on_a_cpu(name: str) -> None:
    assert build(name, fresh()).implementation == "fused"


def test_auto_takes_foreach_where_there_is_no_fused_step() -> None:
    assert build("RMSprop", fresh()).implementation == "foreach"


def test_fused_on_a_device_without_it_is_refused() -> None:
    parameters = {name: nn.Parameter(p.detach().to("meta")) for name, p in fresh().items()}
    with pytest.raises(UnsupportedError, match="implementation=fused"):
        build("AdamW", parameters, implementation="fused")


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "Muon"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_in_another_memory_layout_do_not_corrupt_weights(name: str, channels_last: bool) -> None:
    plain, odd = fresh(channels_last=channels_last), fresh(channels_last=channels_last)
    reference, optimizer = build(name, plain, implementation="loop"), build(name, odd)
    run(reference, plain, range(5))
    run(optimizer, odd, range(5), odd_strides=not channels_last)  # weight and gradient always differ in layout
    for key in plain:
        torch.testing.assert_close(odd[key], plain[key], rtol=1e-10, atol=1e-12)


def test_a_network_turned_channels_last_after_steps_trains_on_correctly() -> None:
    plain, turned = fresh(), fresh()
    reference, optimizer = build("AdamW", plain, implementation="loop"), build("AdamW", turned)
    run(reference, plain, range(8))
    run(optimizer, turned, range(4))
    turned["conv.weight"].data = turned["conv.weight"].data.contiguous(memory_format=torch.channels_last)
    run(optimizer, turned, range(4, 8))
    torch.testing.assert_close(turned["conv.weight"], plain["conv.weight"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(catalogue("optimizer")))
@pytest.mark.parametrize("channels_last", [False, True])
def test_state_by_name_continues_bit_for_bit(name: str, channels_last: bool) -> None:
    whole = fresh(torch.float32, channels_last)
    run(build(name, whole), whole, range(10))

    parameters = fresh(torch.float32, channels_last)
    first = build(name, parameters)
    run(first, parameters, range(4))
    saved = named_state(first)
    # As a file gives them back: contiguous.
    for entry in saved["parameters"].values():
        entry.update({k: v.contiguous().clone() for k, v in entry.items() if isinstance(v, Tensor)})
    again = {n: nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for n, p in parameters.items()}
    second = build(name, again)
    load_named_state(second, saved)
    run(second, again, range(4, 10))
    for key in whole:
        assert torch.equal(again[key], whole[key]), key


def test_loading_does_not_alias_what_was_loaded() -> None:
    parameters = fresh()
    optimizer = build("AdamW", parameters)
    run(optimizer, parameters, range(2))
    saved = named_state(optimizer)
    saved["parameters"] = {n: {k: v.clone() for k, v in entry.items()} for n, entry in saved["parameters"].items()}
    before = saved["parameters"]["matrix.weight"]["exp_avg"].clone()
    load_named_state(optimizer, saved)
    run(optimizer, parameters, range(2, 4))
    assert torch.equal(saved["parameters"]["matrix.weight"]["exp_avg"], before)
    assert float(saved["parameters"]["matrix.weight"]["step"]) == 2


def test_a_parameter_that_never_had_a_gradient_keeps_an_empty_state() -> None:
    parameters = fresh()
    optimizer = build("AdamW", parameters)
    parameters["scale"].grad = torch.ones((), dtype=torch.float64)
    optimizer.step()
    saved = named_state(optimizer)
    assert saved["parameters"]["matrix.weight"] == {}
    other = build("AdamW", fresh())
    load_named_state(other, saved)
    assert named_state(other)["parameters"]["matrix.weight"] == {}
    assert float(named_state(other)["parameters"]["scale"]["step"]) == 1


def damaged(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    parameters = fresh()
    optimizer = build("AdamW", parameters, implementation="foreach")
    run(optimizer, parameters, range(1))
    tree = named_state(optimizer)
    change(tree)
    return tree


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["parameters"].pop("matrix.bias"), "matrix.bias"),
        (lambda t: t["parameters"].update(other={}), "other"),
        (lambda t: t["parameters"]["matrix.bias"].pop("exp_avg"), "matrix.bias"),
        (lambda t: t["parameters"]["matrix.weight"].update(exp_avg=torch.zeros(4, 7)), r"matrix.weight.*\(4, 7\)"),
        (lambda t: t.update(implementation="fused"), "fused"),
        (lambda t: t.update(optimizer="Lion"), "Lion"),
    ],
)
def test_state_that_does_not_fit_is_named(change: Callable[[dict[str, Any]], None], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_named_state(build("AdamW", fresh(), implementation="foreach"), damaged(change))


def test_learning_rate_is_base_times_depth_times_schedule() -> None:
    parameters = fresh()
    groups = parameter_groups(parameters.items(), weight_decay=0.0, blocks=["conv", "matrix"], layer_decay=0.5)
    optimizer = parse_component("optimizer", {"name": "SGD", "lr": 0.8}, "optimizer").build(groups)
    set_learning_rate(optimizer, 0.25)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates == {"conv.weight": 0.05, "matrix.weight": 0.1, "matrix.bias": 0.1, "scale": 0.2}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"name": "SGD", "momentum": 1.0}, "momentum=1.0"),
        ({"name": "SGD", "momentum": 0.0, "nesterov": True}, "nesterov"),
        ({"name": "AdamW", "lr": 0}, "lr=0"),
        ({"name": "RMSprop", "implementation": "fused"}, "implementation=fused"),
        ({"name": "AdamW", "beta3": 0.9}, "beta3"),
    ],
)
def test_options_out_of_range_are_configuration_errors(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_component("optimizer", tree, "optimizer")
