"""LoRA by surgery: names, gradients, merging."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.compress.lora import LoRA, LoRAConfig, adapted_layers
from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, NumericsError, UnsupportedError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")
        self.group = nn.Conv2d(8, 8, 3, stride=2, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.signal = nn.Conv1d(8, 6, 3, dilation=2)
        self.hidden = nn.Linear(6, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.group(F.relu(self.stem(x))))
        return self.head(torch.tanh(self.hidden(self.signal(x.flatten(2)).mean(2))))


def network() -> Net:
    torch.manual_seed(0)
    return Net().double()


def inputs() -> Tensor:
    return torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def adapted(**options: object) -> Net:
    net = network()
    LoRA(LoRAConfig(rank=3, alpha=6.0, **options)).apply(net)  # pyright: ignore[reportArgumentType]
    return net


def disturb(net: nn.Module) -> None:
    """Give adapters values, as training would."""
    for i, (_, layer) in enumerate(adapted_layers(net)):
        nn.init.normal_(layer.lora_b, std=0.3, generator=torch.Generator().manual_seed(i))


def test_output_is_unchanged_at_the_start() -> None:
    assert torch.equal(adapted().train()(inputs()), network().train()(inputs()))


def test_names_of_the_original_parameters_stay() -> None:
    added = set(adapted().state_dict()) - set(network().state_dict())
    assert set(network().state_dict()) <= set(adapted().state_dict())
    assert added == {f"{n}.lora_{x}" for n in ("stem", "group", "signal", "hidden", "head") for x in "ab"}


def test_only_adapters_and_named_parameters_get_gradients() -> None:
    net = network()
    trained = LoRA(LoRAConfig(rank=2, targets=("stem", "hid*"), train=("head.*",))).apply(net)
    assert trained == ["stem.lora_a", "stem.lora_b", "hidden.lora_a", "hidden.lora_b", "head.weight", "head.bias"]
    net(inputs()).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is not None] == trained


def test_layers_trained_in_full_get_no_adapter() -> None:
    assert "head.lora_a" not in adapted(train=("head.*",)).state_dict()


@pytest.mark.parametrize("name", ["hidden", "stem", "group", "signal"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_an_adapter_is_the_layer_with_weight_plus_scaled_product(name: str, dropout: float) -> None:
    net = adapted(dropout=dropout).eval()
    disturb(net)
    layer = net.get_submodule(name)
    plain = network().get_submodule(name)
    product = torch.einsum("or,ri->oi", layer.lora_b, layer.lora_a)
    plain.weight = nn.Parameter(plain.weight + (6.0 / 3) * product.reshape(plain.weight.shape))
    shape = {"hidden": (7, 6), "stem": (2, 3, 9, 9), "group": (2, 8, 9, 9), "signal": (2, 8, 16)}[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["hidden", "stem"])
def test_dropout_touches_the_adapters_input_only(name: str) -> None:
    net = adapted(dropout=0.5).train()
    disturb(net)
    layer, plain = net.get_submodule(name), network().get_submodule(name)
    x = torch.randn(7, 6, dtype=torch.float64) if name == "hidden" else torch.randn(2, 3, 9, 9, dtype=torch.float64)
    torch.manual_seed(3)
    dropped = F.dropout(x, 0.5)
    change = copy.deepcopy(plain)
    change.weight, change.bias = nn.Parameter(layer.lora_change()), None
    torch.manual_seed(3)
    torch.testing.assert_close(layer(x), plain(x) + change(dropped), rtol=0, atol=1e-12)


def test_merged_equals_adapted_and_has_the_original_names_and_classes() -> None:
    net = adapted()
    disturb(net)
    expected = net.eval()(inputs())
    difference = LoRA.merge(net, {"x": inputs()}, tolerance=1e-6)
    torch.testing.assert_close(net(inputs()), expected, rtol=0, atol=1e-12)
    assert difference is not None
    assert difference < 1e-12
    assert list(net.state_dict()) == list(network().state_dict())
    assert [type(m) for m in net.modules()] == [type(m) for m in network().modules()]
    assert all(p.requires_grad for p in net.parameters())
    assert (net.hidden.weight - network().hidden.weight).abs().max() > 0.01


def test_merging_in_float32_agrees_to_1e_6() -> None:
    net = adapted().float()
    disturb(net)
    expected = net.eval()(inputs().float())
    LoRA.merge(net)
    torch.testing.assert_close(net(inputs().float()), expected, rtol=0, atol=1e-6)


def test_a_merge_that_changes_outputs_is_undone() -> None:
    net = adapted()
    disturb(net)
    before = copy.deepcopy(net.state_dict())
    net.head.register_forward_hook(lambda module, args, out: out + hasattr(module, "lora_a") * 0.0 + next(drift))
    drift = iter([0.0, 1.0])
    with pytest.raises(NumericsError, match="Nothing was merged"):
        LoRA.merge(net, {"x": inputs()})
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert len(list(adapted_layers(net))) == 5


def test_state_dict_of_an_adapted_network_loads_into_another() -> None:
    source, target = adapted(), adapted()
    disturb(source)
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.eval()(inputs()), source.eval()(inputs()))


def test_a_shared_weight_is_refused() -> None:
    net = nn.Module()
    net.embed, net.head = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
    net.head.weight = net.embed.weight
    with pytest.raises(ConfigError, match=r"embed.weight = head.weight"):
        LoRA(LoRAConfig()).apply(net)
    assert type(net.head) is nn.Linear


def test_layers_that_torch_reads_past_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="TransformerEncoderLayer"):
        LoRA(LoRAConfig(targets=("*linear1",))).apply(nn.Sequential(nn.TransformerEncoderLayer(8, 2)))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: LoRA(LoRAConfig(targets=("haed",))).apply(network()), "haed"),
        (lambda: LoRA(LoRAConfig(train=("haed",))).apply(network()), "haed"),
        (lambda: LoRA(LoRAConfig(targets=("head",), train=("head.*",))).apply(network()), "no adapter is left"),
        (lambda: LoRA(LoRAConfig()).apply(adapted()), "adapters already"),
        (lambda: LoRA.merge(network()), "no adapter"),
        (lambda: parse_component("adapter", {"name": "lora", "rank": 0}, "adapter"), "adapter.rank=0"),
    ],
)
def test_what_cannot_be_adapted_is_named(act: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        act()
