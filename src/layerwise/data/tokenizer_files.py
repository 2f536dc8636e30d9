"""What of a tokeniser lies in files of its own beside a network's weights, by the tokeniser's kind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerwise.data.marian import MarianTokenizer, is_marian, load_marian, with_files, without_files
from layerwise.data.subword import SubwordTokenizer, with_definition, without_definition
from layerwise.data.subword_files import load_subword

Tree = dict[str, Any]


def split_state(state: Mapping[str, Any]) -> tuple[Tree, Mapping[str, Tree | bytes]]:
    """A tokeniser's state without what is in its files, and the files by name; kinds without files have none."""
    return without_files(state) if state.get("kind") == "marian" else without_definition(state)


def join_state(state: Mapping[str, Any], folder: Path) -> Tree:
    """What `split_state` took apart, read from the folder with its files.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    return with_files(state, folder) if state.get("kind") == "marian" else with_definition(state, folder)


def load_directory(folder: Path) -> SubwordTokenizer | MarianTokenizer:
    """The tokeniser in a directory of transformers.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    return load_marian(folder) if is_marian(folder) else load_subword(folder)
