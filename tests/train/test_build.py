"""From a recipe to what trains: derived values, patterns, blocks, options that work on any network."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from layerwise.api.configure import configure
from layerwise.core.errors import ConfigError
from layerwise.train.build import build, matching


def session(*overrides: tuple[str, Any]) -> Any:
    return build(configure("lenet5", [("max_steps", 2), *overrides]).recipe)


def test_values_that_only_the_data_knows_are_filled_in() -> None:
    found = session()
    assert found.recipe.model.config.num_classes == 10
    assert found.recipe.model.config.in_channels == 1


def test_an_explicit_value_that_conflicts_with_the_data_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"model.num_classes=7 conflicts with the data, which has 10"):
        session(("model.num_classes", 7))


def test_a_presets_own_size_gives_way_to_the_data() -> None:
    assert session(("model", "lenet5-tiny")).recipe.model.config.num_classes == 10


def test_frozen_parameters_do_not_move_and_others_do() -> None:
    found = session(("freeze", ["conv1.*", "fc2.bias"]))
    before = {name: p.detach().clone() for name, p in found.network.named_parameters()}
    found.trainer(0, 0, []).fit()
    moved = {name for name, p in found.network.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if not name.startswith("conv1.") and name != "fc2.bias"}


def test_lora_trains_its_own_parameters_alone() -> None:
    found = session(("adapter", "lora"))
    before = {name: p.detach().clone() for name, p in found.network.named_parameters()}
    found.trainer(0, 0, []).fit()
    moved = {name for name, p in found.network.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all("lora" in name for name in moved)
    assert any(name.startswith("conv2.") for name in moved)


def test_layer_decay_scales_the_rate_from_the_head_down() -> None:
    found = session(("layer_decay", 0.5), ("schedule", "constant"))
    groups = found.trainer(0, 0, []).phases[0].optimizer.param_groups
    scale = {name: group["lr_scale"] for group in groups for name in group["names"]}
    assert [scale[f"{layer}.weight"] for layer in ("fc2", "fc1", "conv3", "conv2", "conv1")] == [
        1,
        0.5,
        0.25,
        0.125,
        0.0625,
    ]


def test_muon_takes_the_inner_matrices_of_a_network_without_blocks() -> None:
    found = session(("optimizer", "Muon"))
    groups = found.trainer(0, 0, []).phases[0].optimizer.param_groups
    matrices = {name for group in groups if group.get("matrix") for name in group["names"]}
    assert matrices == {"conv2.weight", "conv3.weight", "fc1.weight"}


def test_a_pattern_that_matches_nothing_names_near_ones() -> None:
    with pytest.raises(ConfigError, match=r"freeze=conv1.wieght: no parameter.*'conv1.weight'"):
        matching(["conv1.weight", "conv1.bias"], ["conv1.wieght"], "freeze")


def test_a_monitor_that_is_not_measured_is_a_configuration_error() -> None:
    found = session(("eval.monitor", "acuracy"))
    with pytest.raises(ConfigError, match="'accuracy'"):
        found.trainer(0, 0, []).fit()


def test_a_stage_sees_so_many_examples_a_class_as_its_limit_says() -> None:
    found = session(("stages", [{"name": "all"}, {"name": "few", "limit": 3}]))
    assert found.splits is not None
    seen = []
    for index in range(2):
        source = found.trainer(index, 0, []).source
        batches = [batch for _ in range(source.steps_per_epoch) for batch in source.next_step(found.network)]
        seen.append({name: torch.cat([batch[name] for batch in batches]) for name in ("labels", "sample_ids")})
    assert len(seen[0]["labels"]) == len(found.splits.train)
    assert torch.bincount(seen[1]["labels"]).tolist() == [3] * 10
    assert set(seen[1]["sample_ids"].tolist()) <= set(seen[0]["sample_ids"].tolist())
    again = session(("stages", [{"name": "few", "limit": 3}])).trainer(0, 0, []).source
    ids = [batch["sample_ids"] for _ in range(again.steps_per_epoch) for batch in again.next_step(found.network)]
    assert set(torch.cat(ids).tolist()) == set(seen[1]["sample_ids"].tolist())


def test_a_stage_of_a_task_that_makes_its_own_data_takes_no_limit() -> None:
    recipe = configure("reinforce_cartpole", [("stages", [{"name": "few", "limit": 3}])]).recipe
    with pytest.raises(ConfigError, match=r"stages.few.limit"):
        build(recipe).trainer(0, 0, [])


def test_a_stage_may_have_phases_of_its_own(tmp_path: Path) -> None:
    for i in range(8):
        Image.new("RGB", (16, 16), (30 * i, 90, 10)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"colour {i}")
    objective = {"name": "kl_autoencoding", "adversarial_weight": 0.5, "discriminator_width": 16}
    phases = [
        {"name": "autoencoder", "parameters": ["vae.*"]},
        {"name": "discriminator", "parameters": ["objective.discriminator.*"], "every": 2},
    ]
    first = {"name": "first", "objective": objective, "phases": phases, "freeze": ["unet.*", "text_encoder.*"]}
    model = {
        "name": "latent-diffusion-tiny",
        "text_encoder": {"name": "clip-text-tiny", "vocab_size": None, "max_seq_len": 32},
    }
    overrides = [("data.root", str(tmp_path)), ("data.size", [16, 16]), ("model", model), ("max_steps", 2)]
    stages = [first, {"name": "second", "freeze": ["vae.*"]}]
    found = build(configure("latent_diffusion", [*overrides, ("stages", stages), ("batch_size", 2)]).recipe)
    trainer = found.trainer(0, 0, [])
    discriminator = {name: p.detach().clone() for name, p in trainer.objective.named_parameters()}
    for index, moves in enumerate(({"vae"}, {"unet"})):
        before = {name: p.detach().clone() for name, p in found.network.named_parameters()}
        trainer = trainer if index == 0 else found.trainer(1, 2, [])
        assert [plan.name for plan in trainer.phases] == (["autoencoder", "discriminator"], ["main"])[index]
        trainer.fit()
        moved = {name for name, p in found.network.named_parameters() if not torch.equal(p, before[name])}
        assert {name.split(".")[0] for name in moved} == moves
        if index == 0:
            judge = dict(trainer.objective.named_parameters())
            assert not torch.equal(judge["discriminator.head.weight"], discriminator["discriminator.head.weight"])
    with pytest.raises(ConfigError, match=r"stages\.first\.phases=.*names must differ"):
        configure("latent_diffusion", [("stages", [{**first, "phases": [phases[0], phases[0]]}])])


@pytest.mark.parametrize(("recipe", "last"), [("ddpm_fashion", False), ("dcgan_fashion", True)])
def test_maps_have_channels_last_unless_group_norms_stand_between_convolutions(recipe: str, last: bool) -> None:
    made = build(configure(recipe, {"data": "digits", "task.judge": None}.items()).recipe)
    assert made.choices["channels_last"] is last
