"""diffusers' `DiTTransformer2DModel`. Imports no torch.

Queries, keys and values are three matrices there, and every block has a copy of the embeddings of time and class.
"""

from collections.abc import Sequence
from typing import Any

from layerwise.core.errors import CheckpointError
from layerwise.interop.config_pairs import Pair, read_pairs, write_pairs
from layerwise.interop.diffusers import WEIGHTS
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.rules import Concat, Rule, Tie, rule

Tree = dict[str, Any]
MODULE = "layerwise.models.generative.dit"
PAIRS = (
    Pair("in_channels", "in_channels", 4),
    Pair("num_layers", "num_layers", 28),
    Pair("num_attention_heads", "num_heads", 16),
    Pair("patch_size", "patch_size", 2),
    Pair("norm_eps", "eps", 1e-5),
    Pair("num_embeds_ada_norm", "num_classes", 1000),
    Pair("sample_size", "image_size", 32, lambda side: (int(side), int(side)), lambda size: size[0]),
)
REQUIRED = {
    "dropout": (0.0,),
    "attention_bias": (True,),
    "activation_fn": ("gelu-approximate",),
    "norm_type": ("ada_norm_zero",),
    "norm_elementwise_affine": (False,),
}
IGNORED = ("attention_head_dim", "out_channels", "norm_num_groups", "upcast_attention")
EMBEDDINGS = {
    "timestep_embedder.linear_1": "t_embedder.mlp.0",
    "timestep_embedder.linear_2": "t_embedder.mlp.2",
    "class_embedder.embedding_table": "y_embedder.embedding_table",
}


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours."""
    found = [
        rule("pos_embed.proj.*", "x_embedder.proj.*"),
        rule("proj_out_1.*", "final_layer.adaLN_modulation.1.*"),
        rule("proj_out_2.*", "final_layer.linear.*"),
    ]
    blocks = [f"transformer_blocks.{i}" for i in range(config.num_layers)]
    for theirs, ours in EMBEDDINGS.items():
        found.append(rule([f"{block}.norm1.emb.{theirs}.*" for block in blocks], f"{ours}.*", Tie()))
    for i, theirs in enumerate(blocks):
        ours = f"blocks.{i}"
        found += [
            rule([f"{theirs}.attn1.to_{part}.*" for part in "qkv"], f"{ours}.attn.qkv.*", Concat(0)),
            rule(f"{theirs}.attn1.to_out.0.*", f"{ours}.attn.proj.*"),
            rule(f"{theirs}.norm1.linear.*", f"{ours}.adaLN_modulation.1.*"),
            rule(f"{theirs}.ff.net.0.proj.*", f"{ours}.mlp.fc1.*"),
            rule(f"{theirs}.ff.net.2.*", f"{ours}.mlp.fc2.*"),
        ]
    return tuple(found)


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    options = read_pairs(config, where, PAIRS, REQUIRED, IGNORED)
    channels, out_channels = options["in_channels"], config.get("out_channels")
    if out_channels not in (None, channels, 2 * channels):
        raise CheckpointError(
            f"{where}: out_channels={out_channels} is not implemented here; once or twice in_channels is."
        )
    return component_tree(
        MODULE,
        {
            **options,
            "d_model": options["num_heads"] * config.get("attention_head_dim", 72),
            "learned_variance": out_channels == 2 * channels,
            "null_class": True,
            "freq_shift": 1,
        },
    )


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """diffusers' `config.json`."""
    check_sayable(LAYOUTS[0], config, [*(pair.ours for pair in PAIRS), "d_model", "learned_variance"])
    return {
        "_class_name": "DiTTransformer2DModel",
        **write_pairs(config, PAIRS),
        "attention_head_dim": config.d_model // config.num_heads,
        "out_channels": config.in_channels * (1 + config.learned_variance),
        "activation_fn": "gelu-approximate",
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
    }


LAYOUTS = (
    Layout(
        library="diffusers",
        module=MODULE,
        claims=lambda config: config.get("_class_name") == "DiTTransformer2DModel",
        read=read,
        write=write,
        rules=rules,
        weights=WEIGHTS,
        fixed=lambda config: {"freq_shift": 1, "null_class": True},
    ),
)
