"""What every architecture promises, tested on its tiny preset. A new model file is found here by itself.

The card is the promise: its shapes are read and checked (`"float [B, num_classes]"`: a dtype, then names of
dimensions; a name that is a field of the configuration has that value, a letter has one size in all inputs and
outputs), and each capability has a test.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from layerwise.core import discovery
from layerwise.core.cards import Card
from layerwise.nn.protocols import vocabulary_weights

TINY = [name for name in discovery.catalogue("model") if name.endswith("-tiny")]
BATCH_SIZE = 6


@dataclass(frozen=True)
class Case:
    """A tiny preset: its class, configuration, card and batches."""

    name: str
    build_class: type[nn.Module]
    config: Any
    card: Card
    module: Any

    def build(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.build_class(self.config).eval()

    def batch(self, seed: int = 0, size: int = BATCH_SIZE) -> dict[str, Tensor]:
        return self.module.example_batch(self.config, size, torch.Generator().manual_seed(seed))

    def needs(self, capability: str) -> None:
        if capability not in self.card.capabilities:
            pytest.skip(f"{self.name} does not declare {capability!r}")

    def leading(self, letter: str, batch: dict[str, Tensor]) -> list[str]:
        """Inputs whose first dimension the card calls by that letter."""
        return [name for name in batch if (dims(self.card.inputs[name]) or [[""]])[0][:1] == [letter]]


@pytest.fixture(params=TINY)
def case(request: pytest.FixtureRequest) -> Case:
    found = discovery.spec("model", request.param)
    module = importlib.import_module(found.module)
    return Case(request.param, found.load(), module.PRESETS[request.param], module.CARD, module)


def named_outputs(case: Case, result: Any) -> dict[str, Tensor]:
    """The tensors of a result under the names that the card gives them; those after the first may come in training
    mode only.
    """
    if isinstance(result, Tensor):
        first, *others = case.card.outputs.items()
        assert all("while training" in text for _, text in others)
        return {first[0]: result}
    assert hasattr(result, "_fields"), f"forward gives a tensor or a named tuple, got {type(result).__name__}"
    assert set(case.card.outputs) == set(result._fields)
    return {name: value for name, value in zip(result._fields, result, strict=True) if isinstance(value, Tensor)}


def run(case: Case, network: nn.Module, batch: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    with torch.no_grad():
        return named_outputs(case, network(**batch))


def dims(text: str) -> list[list[str]]:
    """Shapes written in a card's text: `"float [B, C] or [N, C]"` -> `[["B", "C"], ["N", "C"]]`; [0, 1] is none."""
    shapes = [[part.strip() for part in found.split(",")] for found in re.findall(r"\[([^\]]*)\]", text)]
    return [shape for shape in shapes if any(re.fullmatch(r"[A-Za-z_]\w*.*", part) for part in shape)]


def fill(shape: list[str], rank: int) -> list[str]:
    """`[B, ...]` with as many unnamed dimensions as the rank asks for."""
    if "..." not in shape:
        return shape
    at = shape.index("...")
    return [*shape[:at], *["..."] * (rank - len(shape) + 1), *shape[at + 1 :]]


def check_shapes(case: Case, texts: dict[str, str], tensors: dict[str, Tensor], sizes: dict[str, int]) -> None:
    for name, tensor in tensors.items():
        text = texts[name]
        filled = [fill(shape, tensor.dim()) for shape in dims(text)]
        shapes = [shape for shape in filled if len(shape) == tensor.dim()]
        assert shapes, f"{name}: the card says {text!r}, the tensor is {list(tensor.shape)}"
        for shape in shapes:
            known = {
                d: getattr(case.config, d) if isinstance(getattr(case.config, d, None), int) else sizes.get(d)
                for d in shape
            }
            known |= {d: int(d) for d in shape if d.isdigit()}
            if all(known[d] in (None, size) for d, size in zip(shape, tensor.shape, strict=True)):
                sizes.update({d: size for d, size in zip(shape, tensor.shape, strict=True) if d.isidentifier()})
                break
        else:
            raise AssertionError(f"{name}: the card says {text!r} with {sizes}, the tensor is {list(tensor.shape)}")
        wanted = re.match(r"(float|int64|bool)\b", text)
        found = "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
        assert wanted is None or wanted[1] == found, f"{name}: the card says {text!r}, the dtype is {tensor.dtype}"


def gradients(case: Case, network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Gradients of a fixed random projection of all outputs, in training mode."""
    torch.manual_seed(1)
    outputs = named_outputs(case, network.train()(**batch))
    generator = torch.Generator().manual_seed(2)
    parts = [
        (value * torch.randn(value.shape, generator=generator)).sum()
        for value in outputs.values()
        if value.is_floating_point()
    ]
    network.zero_grad()
    torch.stack(parts).sum().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def frobenius_ratio(got: Tensor, wanted: Tensor) -> float:
    return float((got.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-12))


def test_there_are_models_to_test() -> None:
    assert "lenet5-tiny" in TINY


def test_tiny_preset_has_less_than_a_million_parameters(case: Case) -> None:
    assert sum(parameter.numel() for parameter in case.build().parameters()) < 1_000_000


def arguments(build_class: type[nn.Module]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(build_class.forward).parameters
    return {name: parameter for name, parameter in found.items() if name != "self"}


def test_example_batch_names_arguments_of_forward(case: Case) -> None:
    batch, parameters = case.batch(), arguments(case.build_class)
    assert set(batch) <= set(case.card.inputs) & set(parameters)
    assert {name for name, parameter in parameters.items() if parameter.default is parameter.empty} <= set(batch)


def test_inputs_of_the_card_are_arguments_of_forward(case: Case) -> None:
    classes = {
        getattr(case.module, type(preset).__name__.removesuffix("Config")) for preset in case.module.PRESETS.values()
    }
    assert set(case.card.inputs) <= {name for build_class in classes for name in arguments(build_class)}


def test_shapes_and_dtypes_are_as_the_card_says(case: Case) -> None:
    batch, sizes = case.batch(), {"B": BATCH_SIZE}
    check_shapes(case, case.card.inputs, batch, sizes)
    check_shapes(case, case.card.outputs, run(case, case.build(), batch), sizes)


def test_outputs_are_finite_float32(case: Case) -> None:
    outputs = run(case, case.build(), case.batch())
    floats = {name: value for name, value in outputs.items() if value.is_floating_point()}
    assert floats
    assert all(value.dtype == torch.float32 and bool(torch.isfinite(value).all()) for value in floats.values())


def test_every_parameter_gets_a_finite_gradient(case: Case) -> None:
    case.needs("differentiable")
    found = gradients(case, case.build(), case.batch())
    assert found
    assert [name for name, gradient in found.items() if gradient is None] == []
    assert [
        name for name, gradient in found.items() if gradient is not None and not torch.isfinite(gradient).all()
    ] == []


def test_inputs_are_left_as_they_are(case: Case) -> None:
    batch = case.batch()
    before = {name: value.clone() for name, value in batch.items()}
    run(case, case.build(), batch)
    assert all(torch.equal(before[name], value) for name, value in batch.items())


def test_same_seed_same_bits(case: Case) -> None:
    first, second, other = case.build(3), case.build(3), case.build(4)
    states = [network.state_dict() for network in (first, second, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    drawn = bool(list(first.parameters()))  # a net wired by hand is the same for every seed
    assert drawn == any(not torch.equal(value, states[2][name]) for name, value in states[0].items())
    outputs = [run(case, network, case.batch()) for network in (first, second)]
    assert all(torch.equal(value, outputs[1][name]) for name, value in outputs[0].items())


def test_reset_parameters_draws_the_initial_weights(case: Case) -> None:
    network, fresh = case.build(3), case.build(3)
    torch.manual_seed(3)
    network.reset_parameters()  # pyright: ignore[reportCallIssue]
    for (name, value), other in zip(network.named_parameters(), fresh.parameters(), strict=True):
        assert value.shape == other.shape
        spread, wanted = (
            float(value.detach().double().std(correction=0)),
            float(other.detach().double().std(correction=0)),
        )
        assert spread == pytest.approx(wanted, rel=1.0, abs=1e-6), f"{name} is not drawn anew by reset_parameters"


def test_saved_and_loaded_weights_give_the_same_bits(case: Case) -> None:
    network, other = case.build(0), case.build(1)
    other.load_state_dict(
        load(save({name: value.contiguous().clone() for name, value in network.state_dict().items()}))
    )
    wanted, got = (run(case, net, case.batch()) for net in (network, other))
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())


def test_a_sample_does_not_depend_on_its_batch_mates(case: Case) -> None:
    """Float32, tolerance 1e-5: a batch of one may be multiplied by another kernel."""
    batch = case.batch()
    rows = case.leading("B", batch)
    if "stochastic" in case.card.capabilities or len(rows) < len(batch):
        pytest.skip("inputs are not separate samples, or eval draws random numbers")
    network = case.build()
    together = run(case, network, batch)
    alone = run(case, network, {name: value[:1] for name, value in batch.items()})
    others = case.batch(seed=1)
    changed = run(case, network, {name: torch.cat([value[:1], others[name][1:]]) for name, value in batch.items()})
    for name, value in together.items():
        if (dims(case.card.outputs[name]) or [[""]])[0][:1] == ["B"]:
            torch.testing.assert_close(alone[name], value[:1], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(changed[name][:1], value[:1], rtol=1e-5, atol=1e-6)


def sequences(case: Case, batch: dict[str, Tensor]) -> Iterator[str]:
    for name in batch:
        if any(shape[:2] == ["B", "T"] for shape in dims(case.card.inputs[name])):
            yield name


def test_future_positions_do_not_change_the_past(case: Case) -> None:
    case.needs("causal")
    batch, other = case.batch(0), case.batch(1)
    network, names = case.build(), list(sequences(case, batch))
    assert names, "a causal model takes a sequence [B, T, ...]"
    length = batch[names[0]].shape[1]
    cut = length // 2
    changed = {
        name: torch.cat([value[:, :cut], other[name][:, cut:]], 1) if name in names else value
        for name, value in batch.items()
    }
    assert any(not torch.equal(changed[name], batch[name]) for name in names)
    before, after = run(case, network, batch), run(case, network, changed)
    for name, value in before.items():
        if value.dim() > 1 and value.shape[1] == length:
            torch.testing.assert_close(after[name][:, :cut], value[:, :cut], rtol=1e-5, atol=1e-6)
            assert not torch.equal(after[name][:, cut:], value[:, cut:])


def test_cached_logits_equal_uncached(case: Case) -> None:
    case.needs("cache")
    network, tokens = case.build(), case.batch()["tokens"]
    with torch.no_grad():
        whole = network(tokens)
        cache = network.init_cache(len(tokens))  # pyright: ignore[reportCallIssue]
        pieces = [network(tokens[:, :2], cache=cache)]
        pieces += [network(tokens[:, i : i + 1], cache=cache) for i in range(2, tokens.shape[1])]
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-5, atol=1e-5)


def test_step_by_step_decoding_gives_the_logits_of_the_full_pass(case: Case) -> None:
    """Two hypotheses of each source: the first goes the target's way, the second goes another and is dropped."""
    case.needs("translates")
    network, batch = case.build(), case.batch()
    tokens = batch["tokens"]
    with torch.no_grad():
        whole = network(**batch)
        cache = network.init_decoding(batch["source"], batch["source_mask"], beams=2)  # pyright: ignore[reportCallIssue]
        pieces: list[Tensor] = []
        for i in range(tokens.shape[1]):
            pair = torch.stack([tokens[:, i], tokens[:, i].roll(1)], dim=1).view(-1, 1)
            pieces.append(network.decode(pair, cache)[::2])  # pyright: ignore[reportCallIssue]
            cache.reorder(torch.arange(len(pair)) // 2 * 2)
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-5, atol=1e-5)
        some = torch.arange(4, len(pair))  # the first two sources are done
        cache.reorder(some)
        if tokens.shape[1] < network.max_seq_len:
            longer = torch.cat([tokens[2:], tokens[2:, :1]], 1)
            wanted = network(batch["source"][2:], longer, batch["source_mask"][2:])[:, -1:]
            got = network.decode(longer[:, -1:].repeat_interleave(2, 0), cache)[::2]  # pyright: ignore[reportCallIssue]
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_node_order_does_not_matter(case: Case) -> None:
    case.needs("permutation_equivariant")
    batch, network = case.batch(size=12), case.build()
    nodes = case.leading("N", batch)
    count = batch[nodes[0]].shape[0]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    place = torch.empty_like(order)
    place[order] = torch.arange(count)
    moved = {name: value[order] if name in nodes else value for name, value in batch.items()}
    moved["edge_index"] = place[batch["edge_index"]]
    before, after = run(case, network, batch), run(case, network, moved)
    for name, value in before.items():
        assert value.shape[0] == count
        torch.testing.assert_close(after[name], value[order], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(after[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("capability", "method"),
    [("features", "forward_features"), ("cache", "init_cache"), ("translates", "init_decoding")],
)
def test_capability_is_declared_where_its_method_is(case: Case, capability: str, method: str) -> None:
    assert (capability in case.card.capabilities) == callable(getattr(case.build(), method, None))


def test_features_are_finite_and_one_a_sample(case: Case) -> None:
    case.needs("features")
    batch = case.batch()
    with torch.no_grad():
        features = case.build().forward_features(**batch)  # pyright: ignore[reportCallIssue]
    assert features.shape[0] == next(iter(batch.values())).shape[0]
    assert torch.isfinite(features).all()


def test_the_last_product_makes_the_logits_of_the_features(case: Case) -> None:
    network = case.build()
    weights = vocabulary_weights(network)
    if weights is None:
        pytest.skip(f"{case.name} does not end in a product with a vocabulary")
    batch = case.batch()
    with torch.no_grad():
        made = torch.nn.functional.linear(network.forward_features(**batch), *weights)  # pyright: ignore[reportCallIssue]
        logits = next(iter(named_outputs(case, network(**batch)).values()))
    torch.testing.assert_close(made, logits)


def test_checkpointed_blocks_give_the_same_gradients(case: Case) -> None:
    plain, saving = case.build(), case.build()
    blocks = [block for module in saving.modules() for block in _blocks(module)]
    if not blocks or "differentiable" not in case.card.capabilities:
        pytest.skip(f"{case.name} names no blocks or has no gradients")
    calls: list[int] = []
    for block in blocks:
        block.forward = _checkpointed(block.forward, calls)
    wanted, got = gradients(case, plain, case.batch()), gradients(case, saving, case.batch())
    assert calls
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-6, atol=1e-7)


def _blocks(module: nn.Module) -> list[nn.Module]:
    blocks = getattr(module, "blocks", None)
    return list(blocks) if isinstance(blocks, nn.ModuleList | nn.Sequential) else []


def _checkpointed(forward: Any, calls: list[int]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return call


def test_builds_on_the_meta_device(case: Case) -> None:
    with torch.device("meta"):
        network = case.build_class(case.config)
    assert all(parameter.device.type == "meta" for parameter in network.parameters())
    real = case.build().state_dict()
    assert {name: value.shape for name, value in network.state_dict().items()} == {n: v.shape for n, v in real.items()}


def test_bf16_stays_within_two_percent(case: Case) -> None:
    """bfloat16 has 8 bits of mantissa: 0.4 % a rounding, a few roundings deep."""
    network, batch = case.build(), case.batch()
    wanted = run(case, network, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(case, network, batch)
    for name, value in wanted.items():
        if value.is_floating_point():
            assert frobenius_ratio(got[name], value) <= 2e-2
