"""From what a person typed to a resolved recipe: recipe < file < command line. Imports no torch."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerwise.core import discovery
from layerwise.core.config import Component, Tree, apply_overrides, merge, parse, read_yaml, to_tree, write_yaml
from layerwise.core.errors import ConfigError
from layerwise.core.suggest import did_you_mean
from layerwise.train.recipe import Recipe

EXTENDS = ("epochs", "max_steps", "max_minutes")


@dataclass(frozen=True, kw_only=True)
class Configured:
    """A resolved recipe and how it came about.

    Args:
        name: recipe name, or the file's stem.
        recipe: resolved.
        tree: the same as plain values; `config.yaml` is its YAML.
        notes: what component swaps dropped.
        run: the run directory that was named in place of a recipe.
        trust: whether code of the user's own may be run.
    """

    name: str
    recipe: Recipe
    tree: Tree
    notes: list[str] = field(default_factory=list)
    run: Path | None = None
    trust: bool = True

    def yaml(self) -> str:
        """Text of `config.yaml`."""
        return write_yaml(self.tree)


def recipe_names() -> list[str]:
    """Every recipe by name."""
    return sorted(discovery.recipe_modules())


def load_recipe(name: str) -> Recipe:
    """The recipe function's tree; a model without a recipe of its own takes its family's.

    Raises:
        ConfigError: no recipe and no model of that name.
    """
    modules = discovery.recipe_modules()
    if name in modules:
        return getattr(importlib.import_module(modules[name]), name)()
    models = discovery.catalogue("model")
    if name in models:
        for other, module in modules.items():
            recipe: Recipe = getattr(importlib.import_module(module), other)()
            if models.get(recipe.model.name, ("",))[0] == models[name][0]:
                from dataclasses import replace

                return replace(recipe, model=Component(name))
        raise ConfigError(
            f"The model {name!r} has no recipe. Name one and swap the model: layerwise train RECIPE model={name}"
        )
    raise ConfigError(
        f"There is no recipe {name!r}.{did_you_mean(name, [*modules, *models])} See: layerwise list recipes"
    )


def configure(target: str, overrides: Iterable[tuple[str, Any]] = (), *, trust_code: bool = False) -> Configured:
    """Resolve a recipe name, a YAML file or a run directory with overrides.

    Raises:
        ConfigError: unknown name, file or key; wrong type or range.
    """
    path, notes, run = Path(target), [], None
    trust = True
    if path.is_dir():
        if not (path / "config.yaml").is_file():
            raise ConfigError(f"{target} is a directory and not a run: it has no config.yaml.")
        run, name, trust = path, path.name, trust_code
        tree = _read_file(path / "config.yaml", notes)[1]
    elif path.suffix in (".yaml", ".yml"):
        run = path.parent if (path.name == "config.yaml" and (path.parent / "env.json").is_file()) else None
        trust = trust_code if run is not None else True
        name, tree = _read_file(path, notes)
        run = None
    else:
        name, tree = target, to_tree(load_recipe(target))
    tree = apply_overrides(tree, overrides, notes)
    recipe = parse(Recipe, tree, trust=trust)
    return Configured(name=name, recipe=recipe, tree=to_tree(recipe), notes=notes, run=run, trust=trust)


def _read_file(path: Path, notes: list[str]) -> tuple[str, Tree]:
    """(name, tree) of a complete file, or of an overlay on the recipe that it names."""
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a configuration: it should map keys to values.")
    if "recipe" not in tree:
        return path.parent.name if path.name == "config.yaml" else path.stem, tree
    base = to_tree(load_recipe(str(tree["recipe"])))
    return str(tree["recipe"]), merge(base, {k: v for k, v in tree.items() if k != "recipe"}, notes)


def flatten(tree: Any, where: str = "") -> dict[str, Any]:
    """Dotted key -> leaf."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) and tree else None
    if items is None:
        return {where: tree}
    return {
        key: leaf
        for name, value in items
        for key, leaf in flatten(value, f"{where}.{name}" if where else str(name)).items()
    }


def changed_keys(old: Tree, new: Tree) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (old, new) where they differ."""
    a, b = flatten(old), flatten(new)
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}
