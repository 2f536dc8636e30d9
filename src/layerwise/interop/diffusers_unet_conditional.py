"""diffusers' `UNet2DConditionModel` in the forms of Stable Diffusion 1 and 2. Names of tensors are ours. Imports no
torch.

`attention_head_dim` is the number of heads there (https://github.com/huggingface/diffusers/issues/2011).
"""

from collections.abc import Sequence
from typing import Any

from layerwise.core.errors import CheckpointError
from layerwise.interop.config_pairs import Pair, read_pairs, side_or_pair, side_pair, write_pairs
from layerwise.interop.diffusers import WEIGHTS, one_number, read_levels, tuple_of, write_levels
from layerwise.interop.layouts import Layout, check_sayable, component_tree

Tree = dict[str, Any]
MODULE = "layerwise.models.generative.unet_conditional"
DOWN = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
UP = {"UpBlock2D": False, "CrossAttnUpBlock2D": True}
TYPES = {
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
PAIRS = (
    Pair("sample_size", "latent_size", 64, side_pair, side_or_pair),
    Pair("out_channels", "latent_channels", 4),
    Pair("block_out_channels", "widths", (320, 640, 1280, 1280), tuple_of, list),
    Pair("layers_per_block", "num_blocks", 2, one_number),
    Pair("transformer_layers_per_block", "num_layers", 1, one_number),
    Pair("cross_attention_dim", "context_size", 1280, one_number),
    Pair("use_linear_projection", "linear_projection", False),
    Pair("norm_num_groups", "num_groups", 32),
    Pair("norm_eps", "eps", 1e-5),
    Pair("flip_sin_to_cos", "cosine_first", True),
    Pair("freq_shift", "freq_shift", 0),
    Pair("dropout", "dropout", 0.0),
)
REQUIRED = {
    "center_input_sample": (False,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "only_cross_attention": (False,),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "reverse_transformer_layers_per_block": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,),
    "dual_cross_attention": (False,),
    "class_embed_type": (None,),
    "addition_embed_type": (None,),
    "num_class_embeds": (None,),
    "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1.0,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "projection_class_embeddings_input_dim": (None,),
    "attention_type": ("default",),
    "class_embeddings_concat": (False,),
    "mid_block_only_cross_attention": (None, False),
    "cross_attention_norm": (None,),
}
ELSEWHERE = ("in_channels", "down_block_types", "up_block_types", "attention_head_dim")
# upcast_attention is about half precision, the others belong to what is None above
IGNORED = (*ELSEWHERE, "upcast_attention", "addition_time_embed_dim", "addition_embed_type_num_heads")


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    config = {**TYPES, **config}
    options = read_pairs(config, where, PAIRS, REQUIRED, IGNORED)
    options["attention"] = read_levels(config, DOWN, UP, where)
    heads, levels = config.get("attention_head_dim", 8), len(options["widths"])
    options["num_heads"] = (heads,) * levels if isinstance(heads, int) else tuple(heads)
    extra = config.get("in_channels", 4) - options["latent_channels"]
    if extra < 0:
        raise CheckpointError(
            f"{where}: in_channels={config.get('in_channels', 4)} below out_channels={options['latent_channels']} is "
            "not implemented here."
        )
    return component_tree(MODULE, {**options, "extra_channels": extra})


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """diffusers' `config.json`."""
    check_sayable(LAYOUTS[0], config, [*(pair.ours for pair in PAIRS), "attention", "num_heads", "extra_channels"])
    return {
        "_class_name": "UNet2DConditionModel",
        **write_pairs(config, PAIRS),
        **write_levels(config.attention, DOWN, UP),
        "attention_head_dim": list(config.num_heads),
        "in_channels": config.latent_channels + config.extra_channels,
        "act_fn": "silu",
    }


LAYOUTS = (
    Layout(
        library="diffusers",
        module=MODULE,
        claims=lambda config: config.get("_class_name") == "UNet2DConditionModel",
        read=read,
        write=write,
        weights=WEIGHTS,
    ),
)
