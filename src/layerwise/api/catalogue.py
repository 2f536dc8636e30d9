"""The verbs `list` and `show`: what there is, without importing it where names suffice."""

import importlib
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

from layerwise.core import discovery
from layerwise.core.errors import ConfigError
from layerwise.core.suggest import did_you_mean

WHAT = ("models", "recipes", "datasets", "tasks", "objectives", "optimizers", "schedules", "transforms", "adapters")
_KINDS = {
    "models": "model",
    "datasets": "data",
    "tasks": "task",
    "objectives": "objective",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "transforms": "transform",
    "adapters": "adapter",
}


def names(what: str, pattern: str = "*") -> list[str]:
    """Names of a sort that match a shell-style pattern.

    Raises:
        ConfigError: no such sort.
    """
    if what == "recipes":
        found: Sequence[str] = sorted(discovery.recipe_modules())
    elif what in _KINDS:
        found = sorted(discovery.catalogue(_KINDS[what]))
    else:
        raise ConfigError(f"There is nothing called {what!r} to list.{did_you_mean(what, WHAT)}")
    return [name for name in found if fnmatch(name, pattern if any(c in pattern for c in "*?[") else f"*{pattern}*")]


def show(name: str) -> dict[str, Any]:
    """What is known of a model: card, parameters, FLOPs of one forward pass, bytes of float32 weights, capabilities,
    options.

    Raises:
        ConfigError: no such model.
    """
    import torch

    from layerwise.core.config import Component, parse_component, to_tree
    from layerwise.train.artefact import fill_derived

    if name not in discovery.catalogue("model"):
        if name in discovery.recipe_modules():
            from layerwise.api.configure import load_recipe

            return {**show(load_recipe(name).model.name), "recipe": name}
        raise ConfigError(
            f"There is no model {name!r}.{did_you_mean(name, discovery.catalogue('model'))} See: layerwise list models"
        )
    module = discovery.catalogue("model")[name][0]
    card = discovery.declarations(module).CARD
    form = card.published_form(name)
    typical = {"num_classes": 10, "in_channels": 1, "vocab_size": 50257, "in_features": 64, **form}
    component: Component = fill_derived(
        parse_component("model", name, "model"), {k: v for k, v in typical.items() if _unset(name, k)}, "model"
    )
    with torch.device("meta"):
        network = component.build()
    assumed = {k: v for k, v in typical.items() if _unset(name, k)}
    real = component.build()
    batch = importlib.import_module(module).example_batch(real.config, 1, torch.Generator().manual_seed(0))
    if "image_size" in form and not name.endswith("-tiny"):
        batch["images"] = torch.zeros(1, batch["images"].shape[1], form["image_size"], form["image_size"])
    count = sum(p.numel() for p in network.parameters())
    return {
        "name": name,
        "title": card.title,
        "paper": {"title": card.paper, "authors": card.authors, "year": card.year, "link": card.link},
        "parameters": count,
        "memory_bytes": 4 * count,
        "flops": count_flops(real, batch),
        "capabilities": list(card.capabilities),
        "inputs": card.inputs,
        "outputs": card.outputs,
        "differences": list(card.differences),
        "options": to_tree(component),
        "assumed": assumed,
        "example": {key: list(value.shape) for key, value in batch.items()},
    }


def _unset(name: str, option: str) -> bool:
    return getattr(discovery.spec("model", name).defaults, option, False) is None


def count_flops(network: Any, batch: dict[str, Any]) -> int:
    """Floating-point operations of one forward pass (a multiply-add is two), counted by torch's dispatcher."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(**batch)
    return int(counter.get_total_flops())
