"""Published settings: each resolves, builds on the meta device, and trains parameters that there are."""

from typing import Any

import pytest
import torch
from torch import nn

from layerwise.api.configure import configure
from layerwise.core import discovery
from layerwise.nn.blocks import block_names
from layerwise.optim.groups import parameter_groups
from layerwise.train.artefact import fill_derived
from layerwise.train.build import matching
from layerwise.train.recipe import Phase, Recipe, Stage

PAPERS = sorted(name for name in discovery.recipe_modules() if name.endswith("_paper"))
FACTS: dict[str, Any] = {"num_classes": 10, "in_channels": 3, "image_size": (32, 32), "vocab_size": 1000}
FACTS |= {"in_features": 784}
OTHER_FACTS: dict[str, dict[str, Any]] = {
    "backprop_parity_paper": {"in_features": 4, "num_classes": 2},
    "gan_paper": {"in_channels": 1, "image_size": (28, 28)},
    "dcgan_paper": {"image_size": (64, 64)},
    "wgan_gp_paper": {"image_size": (64, 64)},
    "stylegan2_paper": {"image_size": (1024, 1024)},
    "vae_mnist_paper": {"in_channels": 1, "image_size": (28, 28), "num_classes": 0},
    "vq_vae_paper": {"image_size": (128, 128)},
    "lenet5_paper": {"in_channels": 1},
    "transformer_paper": {"vocab_size": 37_000},
    "vit_paper": {"image_size": (224, 224), "num_classes": 1000},
}
PUBLISHED = {  # parameters, where the paper or the authors' code has them
    "transformer_paper": (65e6, 0.05),  # table 3
    "vit_paper": (86e6, 0.01),  # table 1
    "ddpm_paper": (35.7e6, 0.01),  # appendix B
    "stylegan2_paper": (30.3e6 + 29.0e6, 0.01),  # as the authors' code prints them, of both networks
}


def build(name: str) -> tuple[Recipe, nn.Module]:
    """The recipe, and its network on the meta device, of the sizes that the data would have said."""
    recipe = configure(name).recipe
    facts = FACTS | OTHER_FACTS.get(name, {})
    unset = {key: value for key, value in facts.items() if getattr(recipe.model.config, key, None) is None}
    with torch.device("meta"):
        return recipe, fill_derived(recipe.model, unset, "model").build()


@pytest.mark.parametrize("name", PAPERS)
def test_published_setting_builds_without_memory_and_finds_what_it_trains(name: str) -> None:
    recipe, network = build(name)
    parameters = dict(network.named_parameters())
    assert all(parameter.device.type == "meta" for parameter in parameters.values())
    if recipe.ema is not None:
        matching(parameters, recipe.ema.parameters, "ema.parameters")
    for stage in recipe.stages or (Stage(name="all"),):
        chosen = stage.objective or recipe.objective
        if chosen is None:
            continue
        frozen = set[str]()
        if patterns := recipe.freeze if stage.freeze is None else stage.freeze:
            frozen = matching(parameters, patterns, "freeze")
        trained = {key: value for key, value in parameters.items() if key not in frozen}
        objective = chosen.build()
        phases = (recipe.phases if stage.phases is None else stage.phases) or (
            Phase(name=next(iter(objective.phases))),
        )
        assert {phase.name for phase in phases} <= set(objective.phases)
        for phase in phases:
            names = matching(trained, phase.parameters, "parameters")
            optimizer = phase.optimizer or stage.optimizer or recipe.optimizer
            groups = parameter_groups(
                [(key, trained[key]) for key in names],
                weight_decay=getattr(optimizer.config, "weight_decay", 0.0),
                blocks=block_names(network),
                layer_decay=recipe.layer_decay,
            )
            optimizer.build(groups)
            factor = (phase.schedule or stage.schedule or recipe.schedule).build().factor
            steps = stage.max_steps or recipe.max_steps or int(1000 * (stage.epochs or recipe.epochs or 1))
            factors = [factor(step, steps, 1000) for step in (0, steps // 2, steps - 1)]
            assert all(0 <= each <= 1 for each in factors)
            assert max(factors) > 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_setting_has_the_published_number_of_parameters(name: str) -> None:
    wanted, tolerance = PUBLISHED[name]
    _, network = build(name)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(wanted, rel=tolerance)
