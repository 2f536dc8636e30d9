"""diffusers' `AutoencoderKL`. Names of tensors are ours; older files call the attention's maps otherwise. Imports no
torch.
"""

from collections.abc import Sequence
from typing import Any

from layerwise.core.errors import CheckpointError
from layerwise.interop.config_pairs import Pair, read_pairs, side_or_pair, side_pair, write_pairs
from layerwise.interop.diffusers import WEIGHTS, one_number, tuple_of
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.rules import Rule, rule

Tree = dict[str, Any]
MODULE = "layerwise.models.generative.autoencoder_kl"
PAIRS = (
    Pair("in_channels", "in_channels", 3),
    Pair("latent_channels", "latent_channels", 4),
    Pair("block_out_channels", "widths", (64,), tuple_of, list),
    Pair("layers_per_block", "num_blocks", 1, one_number),
    Pair("norm_num_groups", "num_groups", 32),
    Pair("scaling_factor", "scaling_factor", 0.18215),
    Pair("mid_block_add_attention", "attention", True),
    Pair("sample_size", "image_size", 32, side_pair, lambda size: 32 if size is None else side_or_pair(size)),
)
REQUIRED = {
    "act_fn": ("silu", "swish"),
    "shift_factor": (None, 0, 0.0),
    "latents_mean": (None,),
    "latents_std": (None,),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
}
IGNORED = ("out_channels", "down_block_types", "up_block_types", "force_upcast")
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours: the attention's by either of its names, then all others."""
    found: list[Rule] = []
    for part in ("encoder", "decoder"):
        for new, old in OLD_NAMES.items():
            ours = f"{part}.mid_block.attentions.0.{new}.*"
            found += [rule(ours, ours), rule(f"{part}.mid_block.attentions.0.{old}.*", ours)]
    return (*found, rule("*", "*"))


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    options = read_pairs(config, where, PAIRS, REQUIRED, IGNORED)
    if config.get("out_channels", 3) != options["in_channels"]:
        raise CheckpointError(
            f"{where}: out_channels={config.get('out_channels', 3)} differs from in_channels={options['in_channels']}, "
            "which is not implemented here."
        )
    levels = len(options["widths"])
    for key, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if list(config.get(key, [kind])) != [kind] * levels:
            raise CheckpointError(
                f"{where}: {key}={list(config.get(key, [kind]))!r} is not implemented here; {levels} times {kind!r}, "
                "one for each of block_out_channels, is."
            )
    return component_tree(MODULE, options)


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """diffusers' `config.json`."""
    check_sayable(LAYOUTS[0], config, [pair.ours for pair in PAIRS])
    return {
        "_class_name": "AutoencoderKL",
        **write_pairs(config, PAIRS),
        "out_channels": config.in_channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(config.widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(config.widths),
        "act_fn": "silu",
    }


LAYOUTS = (
    Layout(
        library="diffusers",
        module=MODULE,
        claims=lambda config: config.get("_class_name") == "AutoencoderKL",
        read=read,
        write=write,
        rules=rules,
        weights=WEIGHTS,
    ),
)
