"""Find components by reading the source, never by importing it.

A component is a class `X` built from a frozen dataclass `XConfig`, registered in its own module by a literal mapping
from public names to
configurations (`PRESETS = {"resnet50": ResNetConfig(...)}`). The variable's name tells the kind: see `KINDS`. Names are
listed from the
syntax tree alone; configurations are had by executing a module's *declarations* (dataclasses, constants, light imports)
and nothing else, so
that a recipe is checked and written down before torch is imported.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, is_dataclass, make_dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from layerwise.core.errors import ConfigError
from layerwise.core.suggest import did_you_mean

PACKAGE = Path(__file__).resolve().parent.parent

# kind -> (folder of the package, name of the registry variable)
KINDS: Mapping[str, tuple[str, str]] = {
    "model": ("models", "PRESETS"),
    "objective": ("objectives", "OBJECTIVES"),
    "optimizer": ("optim", "OPTIMIZERS"),
    "schedule": ("optim", "SCHEDULES"),
    "data": ("data", "DATASETS"),
    "transform": ("data", "TRANSFORMS"),
    "task": ("tasks", "TASKS"),
    "adapter": ("compress", "ADAPTERS"),
}


@dataclass(frozen=True)
class Spec:
    """Where a component comes from and what it is configured by.

    Args:
        kind: a key of `KINDS`.
        name: its public name (or dotted name of the user's own class).
        module: dotted name of the module that defines it.
        class_name: the class to build.
        defaults: an instance of its configuration dataclass, made without importing torch.
    """

    kind: str
    name: str
    module: str
    class_name: str
    defaults: Any
    keyword_style: bool = field(default=False)

    def load(self) -> Any:
        """Import the module and return the class."""
        return getattr(importlib.import_module(self.module), self.class_name)

    def real_config_class(self) -> type:
        """The configuration class as the imported module defines it (the light view has an equal twin)."""
        if self.keyword_style:
            return type(self.defaults)
        return getattr(importlib.import_module(self.module), type(self.defaults).__name__)


def _module_files(folder: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _assigned_name(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return None


def _registry_keys(tree: ast.Module, variable: str) -> dict[str, str]:
    """Literal keys of a registry -> the name of the configuration class called for each."""
    for node in tree.body:
        if (
            _assigned_name(node) == variable
            and isinstance(node, ast.Assign | ast.AnnAssign)
            and isinstance(node.value, ast.Dict)
        ):
            found: dict[str, str] = {}
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if (
                    not isinstance(key, ast.Constant)
                    or not isinstance(value, ast.Call)
                    or not isinstance(value.func, ast.Name)
                ):
                    raise TypeError(f"{variable} must map literal names to calls of a configuration class")
                found[str(key.value)] = value.func.id
            return found
    return {}


@cache
def catalogue(kind: str) -> Mapping[str, tuple[str, str]]:
    """Every name of a kind -> (dotted module, configuration class name), in order of file and definition."""
    folder, variable = KINDS[kind]
    found: dict[str, tuple[str, str]] = {}
    for module, path in _module_files(folder):
        for name, config in _registry_keys(_parsed(path), variable).items():
            if name in found:
                raise TypeError(f"{kind} {name!r} is defined in {found[name][0]} and in {module}")
            found[name] = (module, config)
    return found


@cache
def recipe_modules() -> Mapping[str, str]:
    """Recipe name -> dotted module. A recipe is a public top-level function annotated `-> Recipe`."""
    found: dict[str, str] = {}
    for module, path in _module_files("recipes"):
        for node in _parsed(path).body:
            if (
                isinstance(node, ast.FunctionDef)
                and isinstance(node.returns, ast.Name)
                and node.returns.id == "Recipe"
                and not node.name.startswith("_")
            ):
                found[node.name] = module
    return found


def _is_declaration(node: ast.ClassDef) -> bool:
    def called(name: ast.expr) -> str:
        name = name.func if isinstance(name, ast.Call) else name
        return name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")

    return any(called(d) == "dataclass" for d in node.decorator_list)


@cache
def declarations(module: str) -> ModuleType:
    """A module's dataclasses, constants and light imports, executed without the rest of it.

    Kept: imports from the standard library and from `layerwise.core`; names that other modules of the package declare;
    classes decorated with
    `dataclass`; assignments whose names are all known by then. Everything else (functions, other classes) is left out.
    """
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    light = ModuleType(module)
    light.__file__ = str(path)
    for node in _parsed(path).body:
        if isinstance(node, ast.Import):
            node = ast.Import(names=[a for a in node.names if a.name.split(".")[0] in sys.stdlib_module_names])
            if not node.names:
                continue
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if source.startswith("layerwise.") and not source.startswith("layerwise.core"):
                if PACKAGE.parent.joinpath(*source.split(".")).with_suffix(".py").exists():
                    other = vars(declarations(source))
                    vars(light).update({a.asname or a.name: other[a.name] for a in node.names if a.name in other})
                continue
            if source.split(".")[0] not in sys.stdlib_module_names and not source.startswith("layerwise.core"):
                continue
        elif isinstance(node, ast.ClassDef):
            if not _is_declaration(node):
                continue
        elif not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        code = compile(ast.fix_missing_locations(ast.Module(body=[node], type_ignores=[])), str(path), "exec")
        try:
            exec(code, vars(light))  # noqa: S102 - the package's own source
        except (NameError, AttributeError):
            if _assigned_name(node) in {variable for _, variable in KINDS.values()} | {"CARD"}:
                raise  # a registered configuration that needs a heavy import is a defect of that module
    return light


@cache
def spec(kind: str, name: str) -> Spec:
    """The component of that kind and name.

    Raises:
        ConfigError: unknown name; the message has the nearest ones.
    """
    if ":" in name:
        return _user_spec(kind, name)
    known = catalogue(kind)
    if name not in known:
        for point in entry_points(group=f"layerwise.{kind}"):
            if point.name == name:
                return _user_spec(kind, point.value)
        plural = "datasets" if kind == "data" else f"{kind}s"
        near = did_you_mean(name, known) or f" All of them: layerwise list {plural}"
        raise ConfigError(f"There is no {kind} {name!r}.{near}")
    module, config = known[name]
    registry = getattr(declarations(module), KINDS[kind][1])
    return Spec(kind, name, module, config.removesuffix("Config"), registry[name])


def _user_spec(kind: str, name: str) -> Spec:
    """A class of the user's own, named `package.module:Class`; its options are `ClassConfig`'s fields or the
    constructor's arguments.
    """
    module_name, _, class_name = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a person's module beside the place they call from
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{kind}={name!r}: cannot import {module_name!r}: {error}") from error
    if not hasattr(module, class_name):
        raise ConfigError(
            f"{kind}={name!r}: module {module_name!r} has no {class_name!r}.{did_you_mean(class_name, vars(module))}"
        )
    config_class = getattr(module, f"{class_name}Config", None)
    if config_class is not None and is_dataclass(config_class):
        return Spec(kind, name, module_name, class_name, cast(Callable[[], Any], config_class)())
    return Spec(
        kind, name, module_name, class_name, _config_from_signature(getattr(module, class_name)), keyword_style=True
    )


def _config_from_signature(target: Callable[..., Any]) -> Any:
    fields: list[Any] = []
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        default = None if parameter.default is parameter.empty else parameter.default
        fields.append(
            (
                parameter.name,
                annotation | None if default is None and annotation is not Any else annotation,
                field(default=default),
            )
        )
    return make_dataclass(f"{getattr(target, '__name__', 'User')}Options", fields, frozen=True, kw_only=True)()


def field_default(entry: Any) -> Any:
    """The default of a dataclass field, `MISSING` if it has none."""
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default
