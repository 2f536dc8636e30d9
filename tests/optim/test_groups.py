"""Who decays, who gets which share of the learning rate, what counts as a matrix."""

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.optim.groups import parameter_groups


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 5, 4))
        self.embed = nn.Embedding(7, 4)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3), "norm": nn.LayerNorm(4)}) for _ in range(3)
        )
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


BLOCKS = ["blocks.0", "blocks.1", "blocks.2"]


def by_name(groups: list[dict]) -> dict[str, dict]:
    return {name: group for group in groups for name in group["names"]}


def test_vectors_and_biases_do_not_decay_and_everything_else_does() -> None:
    found = by_name(parameter_groups(Net().named_parameters(), weight_decay=0.1))
    for name, p in Net().named_parameters():
        assert found[name]["weight_decay"] == (0.0 if p.ndim <= 1 or name.endswith("bias") else 0.1), name


def test_layer_decay_falls_from_head_to_embeddings() -> None:
    found = by_name(parameter_groups(Net().named_parameters(), weight_decay=0.1, blocks=BLOCKS, layer_decay=0.5))
    expected = {
        "head.weight": 1.0, "norm.weight": 1.0, "blocks.2.conv.weight": 0.5, "blocks.1.norm.bias": 0.25,
        "blocks.0.conv.bias": 0.125, "embed.weight": 0.0625, "position": 0.0625,
    }  # fmt: skip
    assert {name: found[name]["lr_scale"] for name in expected} == expected


def test_block_10_is_not_taken_for_block_1() -> None:
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(12)))
    groups = parameter_groups(
        net.named_parameters(), weight_decay=0.0, blocks=[str(i) for i in range(12)], layer_decay=0.5
    )
    assert by_name(groups)["10.weight"]["lr_scale"] == 0.25


def test_matrices_are_weights_inside_blocks_only() -> None:
    found = by_name(parameter_groups(Net().named_parameters(), weight_decay=0.1, blocks=BLOCKS))
    assert {name for name in found if found[name]["matrix"]} == {f"blocks.{i}.conv.weight" for i in range(3)}


def test_a_weight_with_one_row_is_no_matrix() -> None:
    net = nn.Sequential(nn.Linear(4, 1))
    assert not by_name(parameter_groups(net.named_parameters(), weight_decay=0.0, blocks=["0"]))["0.weight"]["matrix"]


def test_frozen_and_tied_parameters_appear_at_most_once() -> None:
    net = Net()
    net.embed.weight.requires_grad_(False)
    named = [*net.named_parameters(), ("again", net.head.weight)]
    names = [name for group in parameter_groups(named, weight_decay=0.1) for name in group["names"]]
    assert "embed.weight" not in names
    assert "again" not in names
    assert len(names) == len(set(names)) == len(list(net.parameters())) - 1


def test_names_and_parameters_go_together_in_the_networks_order() -> None:
    net = Net()
    own = dict(net.named_parameters())
    for group in parameter_groups(net.named_parameters(), weight_decay=0.1, blocks=BLOCKS, layer_decay=0.9):
        assert [id(own[name]) for name in group["names"]] == [id(p) for p in group["params"]]
        assert group["names"] == [name for name in own if name in group["names"]]


def test_layer_decay_without_blocks_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"layer_decay=0\.5"):
        parameter_groups(Net().named_parameters(), weight_decay=0.1, layer_decay=0.5)


def test_nothing_to_train_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="frozen"):
        parameter_groups(Net().requires_grad_(False).named_parameters(), weight_decay=0.1)
