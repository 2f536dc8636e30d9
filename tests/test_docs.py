"""Commands that README and docs show are commands that there are, with recipes, keys and messages as shown."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from layerwise.api.configure import configure
from layerwise.cli.main import app
from layerwise.core import discovery
from layerwise.core.config import split_override
from layerwise.core.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
READERS_OWN = "my_digits"  # the recipe that a page has the reader write
PAGES = [
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if page.is_file()
]


def shown(page: Path) -> list[tuple[str, str]]:
    """(command, the line printed under it) of every `$ ...` line in fenced blocks."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        lines = block.splitlines()
        found += [
            (line[2:], "" if after.startswith("$ ") else after)
            for line, after in zip(lines, [*lines[1:], ""], strict=True)
            if line.startswith("$ ")
        ]
    return found


COMMANDS = [(page.name, command, after) for page in PAGES for command, after in shown(page)]
LAYERWISE = [entry for entry in COMMANDS if entry[1].startswith("layerwise ")]


def words_of(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    return words[: words.index(">")] if ">" in words else words


def test_docs_show_commands() -> None:
    assert len(LAYERWISE) > 20


@pytest.mark.parametrize(
    ("page", "command", "after"), LAYERWISE, ids=[f"{page}: {command}" for page, command, _ in LAYERWISE]
)
def test_command_shown_is_accepted(page: str, command: str, after: str) -> None:
    _, verb, *words = words_of(command)
    commands = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    assert verb in commands, f"{page}: there is no verb {verb!r}"
    context = commands[verb].make_context(verb, list(words))
    if verb in {"train", "check", "baseline"}:
        target, *changes = context.params["arguments"]
        if target not in discovery.catalogue("data") and not target.endswith(".yaml") and "/" not in target:
            check_configuration(target, changes, after)
    elif verb == "reproduce":
        assert context.params["recipe"] in {*discovery.recipe_modules(), READERS_OWN}
    elif verb == "show":
        assert context.params["name"] in {*discovery.recipe_modules(), *discovery.catalogue("model")}


def check_configuration(target: str, changes: list[str], after: str) -> None:
    pairs = [split_override(change) for change in changes if not change.startswith("init=./")]  # the reader's own
    if target == READERS_OWN:
        return
    if after.startswith("error: "):
        with pytest.raises(ConfigError) as caught:
            configure(target, pairs)
        assert f"error: {caught.value}" == after
    else:
        configure(target, pairs)


@pytest.mark.parametrize("command", sorted({command for _, command, _ in COMMANDS if command.startswith("make ")}))
def test_make_target_shown_is_there(command: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {word for word in words_of(command)[1:] if "=" not in word} <= targets


@pytest.mark.parametrize("recipe", sorted(discovery.recipe_modules()))
def test_recipe_is_in_the_docs(recipe: str) -> None:
    assert any(f"`{recipe}`" in page.read_text(encoding="utf-8") for page in PAGES)
