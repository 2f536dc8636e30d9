"""From what a person typed to a resolved recipe: recipe < file < command line. Imports no torch."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from layerwise.api.initial import adopt
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
    """The recipe function's tree; a model without a recipe of its own takes its family's: the one named like the
    model's file, else one whose name begins so, else one that takes a preset as it is, else the first that trains
    another of its presets; published settings only where there is no other.

    Raises:
        ConfigError: no recipe and no model of that name.
    """
    modules = discovery.recipe_modules()
    if name in modules:
        return getattr(importlib.import_module(modules[name]), name)()
    models = discovery.catalogue("model")
    if name in models:
        recipes: dict[str, Recipe] = {
            other: getattr(importlib.import_module(at), other)() for other, at in modules.items()
        }
        # The same module and configuration class.
        family = [other for other, recipe in recipes.items() if models.get(recipe.model.name) == models[name]]
        if family:
            named = models[name][0].rpartition(".")[2]
            order = {
                o: (
                    o.endswith("_paper"),
                    r.model.name != name,
                    o != named,
                    not o.startswith(named),  # an experiment is named after its question, not after the model
                    r.model != Component(r.model.name),
                )
                for o, r in recipes.items()
                if o in family
            }
            chosen = recipes[min(family, key=order.__getitem__)]
            return chosen if chosen.model.name == name else replace(chosen, model=Component(name))
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
        tree = apply_overrides(tree, overrides, notes)
    elif path.suffix in (".yaml", ".yml"):
        run = path.parent if (path.name == "config.yaml" and (path.parent / "env.json").is_file()) else None
        trust = trust_code if run is not None else True
        name, tree, given = _read_file(path, notes)
        run = None
        tree = _overridden(tree, given, overrides, notes)
    else:
        name, given = target, {"model": {"name": target}} if target in discovery.catalogue("model") else {}
        overrides = list(overrides)
        base = _base(target, dict(overrides).get("init"), notes)
        tree = _overridden(to_tree(base), given, overrides, notes)
    recipe = parse(Recipe, tree, trust=trust)
    return Configured(name=name, recipe=recipe, tree=to_tree(recipe), notes=notes, run=run, trust=trust)


def _base(target: str, init: Any, notes: list[str]) -> Recipe:
    """The recipe of a name; settings for fine-tuning in place of those for training from scratch, where a classifier
    starts from a checkpoint and the person names a model or their pictures or texts, not settings.
    """
    if target == "text_classification" and _is_checkpoint(init):
        notes.append(f"With init, {target} takes the settings of the recipe text_fine_tuning.")
        return load_recipe("text_fine_tuning")
    model = discovery.catalogue("model").get(target) if target not in discovery.recipe_modules() else None
    if not _is_checkpoint(init) or (model is None and target != "image_classification"):
        return load_recipe(target)
    if model is not None:
        card = discovery.declarations(model[0]).CARD
        if "images" not in card.inputs or "logits" not in card.outputs:
            return load_recipe(target)
    notes.append(f"With init, {target} takes the settings of the recipe image_fine_tuning.")
    tuning = load_recipe("image_fine_tuning")
    return tuning if model is None else replace(tuning, model=Component(target))


def _is_checkpoint(init: Any) -> bool:
    """Whether `init` names a checkpoint: neither nothing nor a distribution to draw from."""
    distributions = discovery.declarations("layerwise.nn.init").SCALE_FREE
    return str(init).lower() not in ("none", "null", "~", "", *distributions)


def _overridden(tree: Tree, given: Tree, overrides: Iterable[tuple[str, Any]], notes: list[str]) -> Tree:
    """Overrides on a recipe's tree, and in between what the checkpoint says that `init` names: recipe < checkpoint <
    person.

    Args:
        given: what the person's file names.
    """
    changes = list(overrides)
    whole = [change for change in changes if "." not in change[0].removesuffix(".name")]
    tree = apply_overrides(tree, whole, notes)
    given = apply_overrides(given, changes, [])
    if _is_checkpoint(given.get("init")):  # a recipe's own `init` goes with what the recipe says itself
        tree = adopt(tree, given, notes)
    return apply_overrides(tree, [change for change in changes if change not in whole], notes)


def _read_file(path: Path, notes: list[str]) -> tuple[str, Tree, Tree]:
    """(name, tree, what the file itself says) of a complete file, or of an overlay on the recipe that it names."""
    try:
        tree = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a configuration: it should map keys to values.")
    if "recipe" not in tree:
        said = {key: value for key, value in tree.items() if key != "init"}  # it has taken over what it wanted
        return path.parent.name if path.name == "config.yaml" else path.stem, tree, said
    base = to_tree(load_recipe(str(tree["recipe"])))
    return str(tree["recipe"]), merge(base, {k: v for k, v in tree.items() if k != "recipe"}, notes), tree


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
