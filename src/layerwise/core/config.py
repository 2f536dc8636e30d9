"""Strict configuration: trees of plain values to typed, frozen dataclasses and back.

Values are parsed by the *target's* type, so that `1e-3` is a float and `no` is a string where a string is wanted; YAML
is therefore read
without YAML's own guesses. A component (optimiser, model, data set ...) is written as its name or as `{name: Muon, lr:
0.02}`.
"""

import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import yaml

from layerwise.core import discovery
from layerwise.core.errors import ConfigError
from layerwise.core.suggest import did_you_mean

Tree = dict[str, Any]


@dataclass(frozen=True)
class Range:
    """Bounds of a number; `open_low`/`open_high` leave the bound itself out."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        low = value > self.low if self.open_low else value >= self.low
        return low and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        parts = []
        if self.low != -math.inf:
            parts.append(f"{'>' if self.open_low else '>='} {self.low:g}")
        if self.high != math.inf:
            parts.append(f"{'<' if self.open_high else '<='} {self.high:g}")
        return " and ".join(parts)


@dataclass(frozen=True)
class Kind:
    """Marks a `Component` field with the kind of component it takes, see `discovery.KINDS`."""

    name: str


@dataclass(frozen=True)
class Square:
    """Marks a pair, height and width, that one number gives as well: both sides of a square."""


PositiveInt = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
PositiveFloat = Annotated[float, Range(0, open_low=True)]
NonNegativeFloat = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]  # a share, bounds included
Probability = Annotated[float, Range(0, 1, open_high=True)]  # a rate of dropping or decay: below one
PictureSize = Annotated[tuple[PositiveInt, PositiveInt], Square()]  # height and width in pixels


@dataclass(frozen=True)
class Component:
    """A named component with its options; `config` is filled in by `parse`."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""
    config: Any = None

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Import the component's module and construct it: `X(config, *args, **kwargs)`."""
        if self.config is None:
            raise TypeError(f"component {self.name!r} was not resolved by parse()")
        found = discovery.spec(self.kind, self.name)
        if found.keyword_style:
            return found.load()(*args, **{f.name: getattr(self.config, f.name) for f in fields(self.config)}, **kwargs)
        return found.load()(parse(found.real_config_class(), to_tree(self.config), trust=True), *args, **kwargs)

    def with_options(self, **changes: Any) -> "Component":
        """The same component with some resolved options replaced."""
        return replace(self, config=replace(self.config, **changes))


def component(name: str, /, **options: Any) -> Component:
    """A component by name, for recipes: `component("AdamW", lr=1e-3)`."""
    return Component(name, options)


# -------------------------------------------------------------------------------------------------------------- trees


def to_tree(value: Any) -> Any:
    """Plain tree (dicts, lists, numbers, strings, booleans, None) of a configuration value."""
    if isinstance(value, Component):
        return {
            "name": value.name,
            **(
                to_tree(value.config) if value.config is not None else {k: to_tree(v) for k, v in value.options.items()}
            ),
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_tree(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_tree(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_tree(v) for v in value]
    return str(value) if isinstance(value, Path) else value


class _Loader(yaml.BaseLoader):
    """Scalars stay strings; a key given twice is an error."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> Tree:
    found: Tree = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in found:
            raise ConfigError(
                f"{key_node.start_mark.name}, line {key_node.start_mark.line + 1}: key {key!r} is given twice."
            )
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def read_yaml(text: str, where: str) -> Any:
    """Parse YAML with every scalar left a string.

    Raises:
        ConfigError: not YAML; the message has file and line.
    """
    try:
        loader = _Loader(text)
        loader.name = where
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {getattr(error, 'problem', None) or error}.") from error


def write_yaml(tree: Any) -> str:
    """YAML text of a tree; `read_yaml` and `parse` give the same values back."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)


def _as_node(value: Any) -> Any:
    """A component given by its bare name, as a mapping that can be descended into."""
    return {"name": value} if isinstance(value, str) else {} if value is None else value


def _is_component(node: Any) -> bool:
    return isinstance(node, dict) and "name" in node


def _swap(old: Any, new: Tree, where: str, notes: list[str]) -> Tree:
    """A component replaced by another one: options of the old one are dropped and named."""
    if _is_component(old) and old["name"] != new["name"]:
        dropped = [f"{where}.{key}" for key in old if key != "name" and key not in new]
        if dropped:
            notes.append(f"{where}={new['name']} replaces {old['name']}; dropped: {', '.join(dropped)}.")
        return new
    return {**_as_node(old), **new} if isinstance(old, dict) else new


def merge(base: Any, overlay: Any, notes: list[str], where: str = "") -> Any:
    """`overlay` on top of `base`: mappings merge, a component of another name replaces, everything else replaces."""
    if isinstance(base, list) and isinstance(overlay, Mapping):
        for key, value in overlay.items():
            index = _list_index(base, key, f"{where}.{key}")
            base = [*base[:index], merge(base[index], value, notes, f"{where}.{key}"), *base[index + 1 :]]
        return base
    if _is_component(base) and isinstance(overlay, str):
        overlay = {"name": overlay}
    if not (isinstance(base, Mapping) and isinstance(overlay, Mapping)):
        return overlay
    if _is_component(base) and "name" in overlay and overlay["name"] != base["name"]:
        return _swap(base, dict(overlay), where, notes)
    merged = dict(base)
    for key, value in overlay.items():
        merged[key] = merge(base[key], value, notes, f"{where}.{key}" if where else key) if key in base else value
    return merged


def _list_index(items: list[Any], key: str, where: str) -> int:
    names = [item.get("name", "") if isinstance(item, Mapping) else getattr(item, "name", "") for item in items]
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(items):
        return int(key)
    raise ConfigError(
        f"{where}: no entry {key!r}.{did_you_mean(key, [n for n in names if n])} Entries: 0 to {len(items) - 1}."
    )


def apply_overrides(tree: Tree, overrides: Iterable[tuple[str, Any]], notes: list[str]) -> Tree:
    """Dotted overrides on a tree, swaps of components first, deeper keys after them.

    Args:
        overrides: (dotted key, value) pairs; values are text from a command line or plain Python values.
        notes: what a swap dropped is added here, to be shown.
    """
    for dotted, value in sorted(overrides, key=lambda pair: (pair[0].count("."), pair[0].endswith(".name") is False)):
        parts = dotted.split(".")
        if not all(parts):
            raise ConfigError(f"{dotted!r} is not a key. Keys look like optimizer.lr.")
        tree = _set(tree, parts, value, "", notes)
    return tree


def _set(node: Any, parts: list[str], value: Any, where: str, notes: list[str]) -> Any:
    key, rest = parts[0], parts[1:]
    here = f"{where}.{key}" if where else key
    if isinstance(node, list):
        index = _list_index(node, key, here)
        new = _set(node[index], rest, value, here, notes) if rest else value
        return [*node[:index], new, *node[index + 1 :]]
    node = _as_node(node)
    if not isinstance(node, dict):
        raise ConfigError(f"{where!r} is a single value; it has no {key!r}.")
    if rest:
        return {**node, key: _set(node.get(key), rest, value, here, notes)}
    if key == "name" and _is_component(node) and isinstance(value, str):
        return _swap(node, {"name": value}, where, notes)
    old = node.get(key)
    if isinstance(value, str) and value.lstrip()[:1] == "{" and not isinstance(old, str):
        value = read_yaml(value, here)
    if isinstance(value, Component):
        value = to_tree(value)
    if _is_component(old) and isinstance(value, str) and value.lower() not in _NONE:
        value = _swap(old, {"name": value}, here, notes)
    elif _is_component(old) and isinstance(value, dict) and _is_component(value):
        value = _swap(old, value, here, notes)
    return {**node, key: value}


def split_override(text: str) -> tuple[str, str]:
    """'a.b=value' -> ('a.b', 'value').

    Raises:
        ConfigError: there is no '=' or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"{text!r} is not an override. Overrides look like optimizer.lr=0.01.")
    return key.strip(), value


# -------------------------------------------------------------------------------------------------------------- parsing

_TRUE, _FALSE, _NONE = {"true", "yes", "on"}, {"false", "no", "off"}, {"null", "none", "~", ""}


def _wrong(where: str, value: Any, rule: str) -> ConfigError:
    return ConfigError(f"{where}={_shown(value)}: must be {rule}.")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def parse(target: Any, tree: Any, where: str = "", *, base: Any = None, trust: bool = False) -> Any:
    """A value of the target type from a plain tree.

    Args:
        target: a dataclass, a scalar type, Literal, tuple, dict, Optional, Annotated with `Range` or `Kind`.
        tree: plain values; strings are read by the target's type.
        where: dotted path, for messages.
        base: for dataclasses, tuples and components, one whose values stand where the tree has none.
        trust: whether a component may be code of the user's own (`package.module:Class`).

    Raises:
        ConfigError: unknown key (with the nearest right one), wrong type, out of range: the message has field, value
            and rule.
    """
    origin, args = get_origin(target), get_args(target)
    if origin is Annotated:
        return _parse_annotated(args, tree, where, base, trust)
    if target is Any:
        return tree
    if origin in (Union, types.UnionType):
        return _parse_union(args, tree, where, base, trust)
    if origin is Literal:
        for choice in args:
            if tree == choice or (isinstance(tree, str) and tree == str(choice)):
                return choice
        near = did_you_mean(str(tree), [str(a) for a in args]) if len(args) > 4 else ""
        raise ConfigError(f"{where}={_shown(tree)}: must be {' or '.join(repr(a) for a in args)}.{near}")
    if isinstance(target, type) and is_dataclass(target):
        return parse_dataclass(target, tree, where, base=base, trust=trust)
    if origin in (tuple, list):
        return _parse_tuple(args, tree, where, base, trust)
    if origin is dict or target is dict:
        if isinstance(tree, str):
            tree = read_yaml(tree, where)
        if not isinstance(tree, Mapping):
            raise _wrong(where, tree, "a mapping like {a: 1}")
        value_type = args[1] if args else Any
        return {str(k): parse(value_type, v, f"{where}.{k}", trust=trust) for k, v in tree.items()}
    return _parse_scalar(target, tree, where)


def _parse_annotated(args: tuple[Any, ...], tree: Any, where: str, base: Any, trust: bool) -> Any:
    for mark in args[1:]:
        if isinstance(mark, Kind):
            return parse_component(mark.name, tree, where, base=base, trust=trust)
        if isinstance(mark, Square) and _is_one_number(tree):
            side = parse(get_args(args[0])[0], tree, where, trust=trust)
            return (side, side)
    bounds = [mark for mark in args[1:] if isinstance(mark, Range)]
    rule = f" {bounds[0]}" if bounds else ""
    try:
        value = parse(args[0], tree, where, trust=trust)
    except ConfigError as error:
        if bounds and args[0] in (int, float):
            raise _wrong(where, tree, f"{_TYPE_NAMES[args[0]]}{rule}") from error
        raise
    for bound in bounds:
        if not bound.holds(value):
            raise _wrong(where, tree, f"{_TYPE_NAMES.get(args[0], 'a value')}{rule}")
    return value


def _is_one_number(tree: Any) -> bool:
    if isinstance(tree, str):
        return "," not in tree and tree.lstrip()[:1] != "["
    return isinstance(tree, int | float)


def _parse_union(args: tuple[Any, ...], tree: Any, where: str, base: Any, trust: bool) -> Any:
    choices = [a for a in args if a is not type(None)]
    if len(choices) < len(args) and (tree is None or (isinstance(tree, str) and tree.lower() in _NONE)):
        return None
    errors: list[ConfigError] = []
    for choice in choices:
        try:
            return parse(choice, tree, where, base=base, trust=trust)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    rules = [str(e).removeprefix(f"{where}={_shown(tree)}: must be ").removesuffix(".") for e in errors]
    raise _wrong(where, tree, " or ".join(rules))


def _parse_tuple(args: tuple[Any, ...], tree: Any, where: str, base: Any, trust: bool) -> tuple[Any, ...]:
    given = tree
    if isinstance(tree, str):
        tree = (
            read_yaml(tree, where)
            if tree.lstrip()[:1] == "["
            else [part.strip() for part in tree.split(",")]
            if tree
            else []
        )
    if isinstance(tree, Mapping) and isinstance(base, tuple):  # some entries changed by their number
        standing = cast(tuple[Any, ...], base)
        places = {_list_index(list(standing), str(key), f"{where}.{key}"): item for key, item in tree.items()}
        types_of = [args[0]] * len(standing) if len(args) == 2 and args[1] is Ellipsis else args
        return tuple(
            parse(types_of[i], places[i], f"{where}.{i}", base=value, trust=trust) if i in places else value
            for i, value in enumerate(standing)
        )
    if isinstance(tree, Mapping) or not isinstance(tree, Iterable):
        raise _wrong(where, given, "a list like [1, 2]")
    items = list(tree)
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(parse(args[0], item, f"{where}.{i}", trust=trust) for i, item in enumerate(items))
    if len(items) != len(args):
        raise _wrong(where, given, f"a list of {len(args)} values")
    return tuple(
        parse(t, item, f"{where}.{i}", trust=trust) for i, (t, item) in enumerate(zip(args, items, strict=True))
    )


_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def _parse_scalar(target: Any, value: Any, where: str) -> Any:
    rule = _TYPE_NAMES.get(target)
    if rule is None:
        raise TypeError(f"{where}: configuration fields cannot have the type {target!r}")
    if target is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        raise _wrong(where, value, rule)
    if target in (str, Path):
        if isinstance(value, str | Path):
            return target(value)
        raise _wrong(where, value, rule)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _wrong(where, value, rule)
    try:
        number = float(value)
    except ValueError:
        raise _wrong(where, value, rule) from None
    if math.isnan(number) or (target is int and (math.isinf(number) or number != int(number))):
        raise _wrong(where, value, rule)
    if target is int:
        return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(number)
    return number


def parse_dataclass(target: type, tree: Any, where: str = "", *, base: Any = None, trust: bool = False) -> Any:
    """A dataclass instance from a mapping; unknown keys are errors with the nearest right one."""
    if isinstance(tree, target):
        return tree
    if isinstance(tree, str) and tree.lstrip()[:1] == "{":
        tree = read_yaml(tree, where)
    if not isinstance(tree, Mapping):
        raise _wrong(where, tree, f"a mapping with {', '.join(f.name for f in fields(target))}")
    hints = get_type_hints(target, include_extras=True)
    known = [f.name for f in fields(target) if f.init]
    _reject_unknown(tree, known, where, target.__name__)
    values: Tree = {}
    for entry in fields(target):
        if not entry.init:
            continue
        here = f"{where}.{entry.name}" if where else entry.name
        standing = getattr(base, entry.name) if base is not None else discovery.field_default(entry)
        if entry.name in tree:
            nested = standing if is_dataclass(standing) or isinstance(standing, tuple) else None
            values[entry.name] = parse(hints[entry.name], tree[entry.name], here, base=nested, trust=trust)
        elif base is not None or not isinstance(standing, type(discovery.MISSING)):
            values[entry.name] = (
                parse(hints[entry.name], to_tree(standing), here, trust=trust) if _has_component(standing) else standing
            )
        else:
            raise ConfigError(f"{here}: is required.")
    try:
        return target(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error
    except ValueError as error:
        raise ConfigError(f"{where or target.__name__}: {error}") from error


def _has_component(value: Any) -> bool:
    if isinstance(value, Component):
        return True
    if is_dataclass(value) and not isinstance(value, type):
        return any(_has_component(getattr(value, f.name)) for f in fields(value))
    return isinstance(value, list | tuple) and any(_has_component(v) for v in value)


def _reject_unknown(tree: Mapping[str, Any], known: list[str], where: str, owner: str) -> None:
    for key in tree:
        if key not in known:
            full = f"{where}.{key}" if where else key
            raise ConfigError(f"Unknown key {full!r}: {where or owner} has no {key!r}.{did_you_mean(str(key), known)}")


def parse_component(
    kind: str, tree: Any, where: str, *, base: Component | None = None, trust: bool = False
) -> Component:
    """A resolved component from its name, a mapping with `name` and options, or another component.

    Options without a name change `base`, the component that stands there.
    """
    if isinstance(tree, str) and tree.lstrip()[:1] == "{":
        tree = read_yaml(tree, where)
    tree = to_tree(tree) if isinstance(tree, Component) else _as_node(tree)
    if not isinstance(tree, Mapping):
        raise _wrong(where, tree, f"the name of a {kind}, or {{name: ..., options}}")
    if "name" in tree:
        name = str(tree["name"])
        defaults, given = _defaults_of(kind, name, where, trust), {}
    elif base is not None:
        standing = parse_component(kind, base, where, trust=trust)
        name, defaults, given = standing.name, standing.config, standing.options
    else:
        _reject_unknown(tree, ["name"], where, where)
        raise ConfigError(f"{where}: which {kind}? Give its name: {where}=NAME.")
    options = {key: value for key, value in tree.items() if key != "name"}
    _reject_unknown(options, [*(f.name for f in fields(defaults)), "name"], where, f"{kind} {name}")
    config = parse_dataclass(type(defaults), options, where, base=defaults, trust=trust)
    return Component(name, {**given, **options}, kind, config)


def _defaults_of(kind: str, name: str, where: str, trust: bool) -> Any:
    if ":" in name and not trust:
        raise ConfigError(
            f"{where}={name}: code of your own is run only when asked for. Add --trust-code if you trust it."
        )
    try:
        return discovery.spec(kind, name).defaults
    except ConfigError as error:
        raise ConfigError(f"{where}={name}: {error}") from error
