"""diffusers' `UNet2DModel`. Names of tensors are ours. Imports no torch."""

from collections.abc import Sequence
from typing import Any

from layerwise.core.errors import CheckpointError
from layerwise.interop.config_pairs import Pair, read_pairs, side_or_pair, side_pair, write_pairs
from layerwise.interop.diffusers import WEIGHTS, one_number, read_levels, tuple_of, write_levels
from layerwise.interop.layouts import Layout, check_sayable, component_tree

Tree = dict[str, Any]
MODULE = "layerwise.models.generative.unet"
DOWN = {"DownBlock2D": False, "AttnDownBlock2D": True}
UP = {"UpBlock2D": False, "AttnUpBlock2D": True}
PAIRS = (
    Pair("sample_size", "image_size", None, side_pair, lambda size: None if size is None else side_or_pair(size)),
    Pair("in_channels", "in_channels", 3),
    Pair("block_out_channels", "widths", (224, 448, 672, 896), tuple_of, list),
    Pair("layers_per_block", "num_blocks", 2, one_number),
    Pair("attention_head_dim", "head_dim", 8),
    Pair("norm_num_groups", "num_groups", 32),
    Pair("norm_eps", "eps", 1e-5),
    Pair("resnet_time_scale_shift", "scale_shift", "default", lambda kind: kind == "scale_shift",
         lambda flag: "scale_shift" if flag else "default"),
    Pair("flip_sin_to_cos", "cosine_first", True),
    Pair("freq_shift", "freq_shift", 0),
    Pair("downsample_padding", "pad_evenly", 1, bool, int),
    Pair("dropout", "dropout", 0.0),
)  # fmt: skip
REQUIRED = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "attn_norm_num_groups": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "downsample_padding": (0, 1),
    "add_attention": (True,),
    "class_embed_type": (None,),
}
ELSEWHERE = ("out_channels", "down_block_types", "up_block_types", "num_class_embeds", "time_embedding_dim")
IGNORED = (*ELSEWHERE, "num_train_timesteps")


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    options = read_pairs(config, where, PAIRS, REQUIRED, IGNORED)
    attention = read_levels(config, DOWN, UP, where)
    if config.get("out_channels", 3) != options["in_channels"]:
        raise CheckpointError(
            f"{where}: out_channels={config.get('out_channels', 3)} differs from in_channels={options['in_channels']}, "
            "which is not implemented here."
        )
    if config.get("time_embedding_dim") not in (None, 4 * options["widths"][0]):
        raise CheckpointError(
            f"{where}: time_embedding_dim={config['time_embedding_dim']} is not implemented here; four times the first "
            "width is."
        )
    classes = config.get("num_class_embeds")
    return component_tree(
        MODULE, {**options, "attention": attention, "num_classes": classes or 0, "null_class": not classes}
    )


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """diffusers' `config.json`."""
    said = [*(pair.ours for pair in PAIRS), "attention", "num_classes", "null_class"]
    check_sayable(LAYOUTS[0], config, said)
    classes = config.num_classes + config.null_class if config.num_classes else None
    return {
        "_class_name": "UNet2DModel",
        **write_pairs(config, PAIRS),
        **write_levels(config.attention, DOWN, UP),
        "out_channels": config.in_channels,
        "num_class_embeds": classes,
        "act_fn": "silu",
    }


LAYOUTS = (
    Layout(
        library="diffusers",
        module=MODULE,
        claims=lambda config: config.get("_class_name") == "UNet2DModel",
        read=read,
        write=write,
        weights=WEIGHTS,
    ),
)
