"""Rules of the house that no linter knows: cheap start, light declarations, no code read from files, tests in place."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from layerwise.cli.main import app
from layerwise.core import discovery
from layerwise.core.errors import EXIT_DONE

TESTS = Path(__file__).resolve().parent
SOURCE = discovery.PACKAGE
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "safetensors", "jaxtyping", "PIL", "gymnasium")
CORE_DEPENDENCIES = {
    "torch", "numpy", "safetensors", "yaml", "typer", "rich", "PIL", "sklearn", "matplotlib", "jaxtyping",
}  # fmt: skip
COMPONENTS = [(kind, name) for kind in discovery.KINDS for name in discovery.catalogue(kind)]
MODEL_MODULES = sorted({module for module, _ in discovery.catalogue("model").values()})
VERBS = sorted(typer.main.get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(SOURCE.parent)}:{getattr(node, 'lineno', 0)}"


def imported(node: ast.AST) -> Iterator[str]:
    """Top-level package names of an import statement."""
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        yield node.module.split(".")[0]


def at_import_time(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements that run when a module is imported: outside functions and `if TYPE_CHECKING`."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING"):
            todo.extend(node.orelse)
            continue
        yield node
        todo.extend(ast.iter_child_nodes(node))


def dotted(node: ast.AST) -> str:
    """`torch.load` for the expression that says so; '' for anything that is no dotted name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


# ---------------------------------------------------------------------------------------------------- start


def loaded_by(code: str) -> tuple[set[str], str]:
    """Heavy packages that running this code imports, and what it printed."""
    indented = re.sub("^", "    ", code, flags=re.MULTILINE)
    script = f"import sys\ntry:\n{indented}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
    script += f"print('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == EXIT_DONE, done.stderr
    shown, _, loaded = done.stdout.rpartition("LOADED")
    return set(loaded.split()), shown


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import layerwise")[0] == set()


def test_help_never_imports_torch() -> None:
    loaded, shown = loaded_by("from layerwise.cli.main import main\nsys.argv = ['layerwise', '--help']\nmain()")
    assert loaded == set()
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example_and_imports_no_torch(verb: str) -> None:
    loaded, shown = loaded_by(
        f"from layerwise.cli.main import main\nsys.argv = ['layerwise', {verb!r}, '--help']\nmain()"
    )
    assert loaded == set()
    assert f"Example: layerwise {verb}" in " ".join(shown.split())


def test_what_begins_a_run_is_imported_without_torch() -> None:
    """`config.yaml` is written before torch is imported, so that a run that fails early has left its settings."""
    assert loaded_by("import layerwise.api.train")[0] == set()


def test_recipes_are_built_without_torch() -> None:
    code = "import importlib\nfrom layerwise.core import discovery\n"
    code += "for name, module in discovery.recipe_modules().items(): getattr(importlib.import_module(module), name)()"
    assert loaded_by(code)[0] == set()


# ---------------------------------------------------------------------------------------------------- components


def plain(value: Any) -> Any:
    """Dataclass instances as (class name, values), so that twins of one source compare equal."""
    return (type(value).__name__, asdict(value)) if is_dataclass(value) and not isinstance(value, type) else value


@pytest.mark.parametrize(("kind", "name"), COMPONENTS, ids=[f"{kind}-{name}" for kind, name in COMPONENTS])
def test_component_read_from_source_equals_the_imported_one(kind: str, name: str) -> None:
    found = discovery.spec(kind, name)
    module = importlib.import_module(found.module)
    registry = getattr(module, discovery.KINDS[kind][1])
    assert list(registry) == [key for key, (source, _) in discovery.catalogue(kind).items() if source == found.module]
    assert plain(found.defaults) == plain(registry[name])
    assert type(registry[name]).__name__ == f"{found.load().__name__}Config"


@pytest.mark.parametrize("module", MODEL_MODULES)
def test_card_read_from_source_equals_the_imported_one(module: str) -> None:
    assert plain(discovery.declarations(module).CARD) == plain(importlib.import_module(module).CARD)


@pytest.mark.parametrize("module", MODEL_MODULES)
def test_model_module_has_a_tiny_preset_and_a_test_file(module: str) -> None:
    presets = [name for name, (source, _) in discovery.catalogue("model").items() if source == module]
    assert [name for name in presets if name.endswith("-tiny")], f"{module} has no preset that ends with -tiny"
    assert list(TESTS.glob(f"models/*/test_{module.rpartition('.')[2]}.py")), (
        f"{module} has no tests/models/*/test_*.py of its name"
    )


def test_every_model_module_registers_a_preset() -> None:
    found = {
        f"layerwise.{'.'.join(path.relative_to(SOURCE).with_suffix('').parts)}"
        for path in (SOURCE / "models").rglob("[!_]*.py")
    }
    assert found == set(MODEL_MODULES)


def test_no_model_inherits_from_another() -> None:
    wrong: list[str] = []
    for path in (SOURCE / "models").rglob("*.py"):
        tree = tree_of(path)
        foreign = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("layerwise.models")
            for alias in node.names
        }
        wrong += [
            place(path, node)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and any(dotted(base).split(".")[0] in foreign for base in node.bases)
        ]
    assert wrong == []


# ---------------------------------------------------------------------------------------------------- files


def test_init_files_hold_a_docstring_only() -> None:
    wrong = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("__init__.py")
        if path.parent != SOURCE
        and not (len(body := tree_of(path).body) == 1 and ast.get_docstring(tree_of(path)) and body)
    ]
    assert wrong == []


def test_folders_are_at_most_three_deep() -> None:
    assert [str(path) for path in FILES if len(path.relative_to(SOURCE.parent).parts) > 4] == []


def test_optional_packages_are_imported_inside_functions() -> None:
    allowed = CORE_DEPENDENCIES | set(sys.stdlib_module_names) | {"layerwise"}
    wrong = [
        f"{place(path, node)} {name}"
        for path in FILES
        for node in at_import_time(tree_of(path))
        for name in imported(node)
        if name not in allowed
    ]
    assert wrong == []


def test_track_imports_torch_only_inside_functions() -> None:
    wrong = [
        place(path, node)
        for path in (SOURCE / "track").rglob("*.py")
        for node in at_import_time(tree_of(path))
        if "torch" in imported(node)
    ]
    assert wrong == []


def harmless_unpickler(tree: ast.Module) -> bool:
    """Whether a module uses of pickle no more than `Unpickler` subclasses that say themselves which names there are.

    That reads published files of numbers that exist in no other form (the Planetoid graphs).
    """
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and dotted(node.value) == "pickle"}
    classes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "pickle.Unpickler" in {dotted(base) for base in node.bases}
    ]
    own = [{part.name for part in node.body if isinstance(part, ast.FunctionDef)} for node in classes]
    return used <= {"Unpickler", "UnpicklingError"} and bool(own) and all("find_class" in names for names in own)


def test_nothing_is_read_that_could_run_code() -> None:
    """No pickle in any of its names; `torch.load` with weights_only=True; arrays without allow_pickle."""
    wrong: list[str] = []
    for path in FILES:
        tree = tree_of(path)
        for node in ast.walk(tree):
            found = set(imported(node)) & {"pickle", "_pickle", "dill", "shelve", "marshal", "joblib"}
            if found and not (isinstance(node, ast.Import) and found == {"pickle"} and harmless_unpickler(tree)):
                wrong.append(f"{place(path, node)} import {found}")
            if isinstance(node, ast.Call):
                given = {key.arg: getattr(key.value, "value", None) for key in node.keywords}
                if dotted(node.func) == "torch.load" and given.get("weights_only") is not True:
                    wrong.append(f"{place(path, node)} torch.load")
                if given.get("allow_pickle"):
                    wrong.append(f"{place(path, node)} allow_pickle")
    assert wrong == []


def test_no_exception_is_swallowed_in_silence() -> None:
    wrong = [
        place(path, node)
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (dotted(node.type) in {"Exception", "BaseException"} and all(isinstance(b, ast.Pass) for b in node.body))
        )
    ]
    assert wrong == []


def test_networks_do_not_print_read_the_environment_or_move_tensors() -> None:
    wrong: list[str] = []
    for path in [file for folder in ("models", "nn", "ops") for file in (SOURCE / folder).rglob("*.py")]:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                name = dotted(node.func)
                method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                if name == "print" or method in {"cuda", "item"}:
                    wrong.append(f"{place(path, node)} {name or method}")
            elif dotted(node) in {"os.environ", "os.getenv"}:
                wrong.append(f"{place(path, node)} {dotted(node)}")
    assert wrong == []
