"""What all architectures of timm share: `config.json` with `architecture`, `model_args` and `pretrained_cfg`.

Imports no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.core import discovery
from layerwise.core.errors import CheckpointError
from layerwise.interop.config_pairs import Pair, read_pairs
from layerwise.interop.preprocessing import Preprocessing, from_timm, to_timm

Tree = dict[str, Any]
# Arguments of timm's models that act in training only, or choose an implementation.
IGNORED_ARGS = (
    "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate",
    "drop_block_rate", "weight_init", "fix_init", "zero_init_last", "dynamic_img_size", "strict_img_size", "device",
    "dtype", "num_classes", "in_chans",
)  # fmt: skip


def architecture(config: Mapping[str, Any]) -> str:
    """timm's name of the architecture without the tag of its weights; "" for files of others."""
    name = config.get("architecture")
    return (
        name.split(".")[0] if isinstance(name, str) and "model_type" not in config and "library" not in config else ""
    )


def read_timm(
    config: Tree,
    where: str,
    *,
    preset: str,
    pairs: Sequence[Pair],
    required: Mapping[str, tuple[Any, ...]],
) -> Tree:
    """Our component from timm's `config.json`.

    Args:
        preset: our name of the architecture.
        pairs: model arguments that both sides have; one that the file leaves out is the preset's.
        required: model arguments that change the function -> the values that are implemented.

    Raises:
        CheckpointError: an argument that is not known, or a value that is not implemented.
    """
    cfg = config.get("pretrained_cfg", config)
    args = config.get("model_args") or {}
    if not isinstance(cfg, dict) or not isinstance(args, dict):
        raise CheckpointError(f"{where}: pretrained_cfg and model_args should be objects.")
    given = [pair for pair in pairs if pair.theirs in args]
    options = read_pairs(args, f"{where}: model_args", given, required, [*IGNORED_ARGS, *(p.theirs for p in pairs)])
    classes = args.get("num_classes", config.get("num_classes", cfg.get("num_classes", 1000)))
    channels = args.get("in_chans", (cfg.get("input_size") or [3])[0])
    if not isinstance(classes, int) or classes < 0 or not isinstance(channels, int) or channels < 1:
        raise CheckpointError(f"{where}: num_classes={classes!r} or the channels of input_size are not understood.")
    pool = config.get("global_pool")
    if pool and "global_pool" in required and pool not in required["global_pool"]:
        raise CheckpointError(
            f"{where}: global_pool={pool!r} changes what the network computes and is not implemented here; "
            f"{required['global_pool'][0]!r} is."
        )
    return {"name": preset, **options, "num_classes": classes or None, "in_channels": channels}


def write_timm(
    config: Any, class_names: Sequence[str], *, name: str, pairs: Sequence[Pair], num_features: int, pool: str
) -> Tree:
    """timm's `config.json`.

    Args:
        name: timm's and our name of the architecture; where its preset differs, `model_args` says so.
    """
    preset = discovery.spec("model", name).defaults
    args = {
        pair.theirs: pair.save(getattr(config, pair.ours))
        for pair in pairs
        if pair.save(getattr(config, pair.ours)) != pair.save(getattr(preset, pair.ours))
    }
    if config.in_channels != 3:
        args["in_chans"] = config.in_channels
    tree: Tree = {
        "architecture": name,
        "num_classes": config.num_classes,
        "num_features": num_features,
        "global_pool": pool,
        "pretrained_cfg": {"num_classes": config.num_classes, "input_size": [config.in_channels, 224, 224]},
    }
    if getattr(config, "image_size", None) is not None:
        tree["pretrained_cfg"] |= {"input_size": [config.in_channels, *config.image_size], "fixed_input_size": True}
    if args:
        tree["model_args"] = args
    if class_names:
        tree["label_names"] = list(class_names)
    return tree


def read_preprocessing(files: Mapping[str, Tree], where: str) -> Preprocessing | None:
    """Of the files beside the weights."""
    config = files["config.json"]
    cfg = config.get("pretrained_cfg", config)
    channels = (config.get("model_args") or {}).get("in_chans")
    if channels is not None and cfg.get("input_size"):
        cfg = {**cfg, "input_size": [channels, *cfg["input_size"][1:]]}
    return from_timm(cfg, where)


def write_preprocessing(preprocessing: Preprocessing) -> Mapping[str, Tree]:
    """Entries to add to `config.json`."""
    return {"config.json": {"pretrained_cfg": to_timm(preprocessing)}}
