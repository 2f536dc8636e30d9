"""Repositories of the Hugging Face hub, by id. Imports no torch."""

import os
import re
from pathlib import Path

from layerwise.core.console import Console
from layerwise.core.errors import ConfigError, MissingExtraError, UnsupportedError

_ID = re.compile(r"(?:hf-hub:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")
_WANTED = [
    "config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt",
    "source.spm", "target.spm", "generation_config.json",
]  # fmt: skip


def is_hub_id(source: str) -> bool:
    """Whether a text looks like `owner/name`, and `owner` is no folder here, of which a misspelt file would be sought
    on the hub; `hf-hub:owner/name` always does.
    """
    found = _ID.fullmatch(source)
    return found is not None and (source.startswith("hf-hub:") or not Path(found[1]).parent.is_dir())


def fetch(source: str) -> Path:
    """The repository's configuration and weights in the hub's cache; safetensors, else the older pickled weights.

    Raises:
        ConfigError: there is no such repository.
        MissingExtraError: huggingface_hub is not installed.
        UnsupportedError: not in the cache, and the network is forbidden or out of reach.
    """
    found = _ID.fullmatch(source)
    assert found is not None
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise MissingExtraError(
            "huggingface_hub", "hub", f"{source} is no file here; to look for it on the hub"
        ) from None
    forbidden = os.environ.get("LAYERWISE_OFFLINE") == "1"
    offline = forbidden or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE")
    if not offline:
        Console().info(f"{source}: from https://huggingface.co/{found[1]}, where it is not in the hub's cache")
    try:
        folder = Path(huggingface_hub.snapshot_download(found[1], allow_patterns=_WANTED, local_files_only=offline))
        if not any(folder.glob("*.safetensors")):
            older = [*_WANTED, "pytorch_model.bin", "pytorch_model*.bin", "pytorch_model.bin.index.json"]
            folder = Path(huggingface_hub.snapshot_download(found[1], allow_patterns=older, local_files_only=offline))
    except errors.RepositoryNotFoundError as error:
        raise ConfigError(f"{source}: no such file here, and no such repository on the hub.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        why = "HF_HUB_OFFLINE or LAYERWISE_OFFLINE forbids to fetch it" if offline else "the hub is out of reach"
        raise UnsupportedError(f"{source}: no such file here, not in the hub's cache, and {why}.") from error
    return folder
