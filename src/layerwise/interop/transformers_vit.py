"""transformers' ViT (`ViTForImageClassification`, `ViTModel`). Imports no torch.

Queries, keys and values are three matrices there; the layer norms have eps 1e-12 unless the file says otherwise.
"""

from collections.abc import Sequence
from typing import Any

from layerwise.interop.config_pairs import Pair, one_side, read_pairs, side_or_pair, side_pair, write_pairs
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.rules import Concat, Rule, rule
from layerwise.interop.transformers import (
    SHARED_IGNORED,
    read_classes,
    read_preprocessing,
    write_classes,
    write_preprocessing,
)

Tree = dict[str, Any]
MODULE = "layerwise.models.vision.vit"
PAIRS = (
    Pair("hidden_size", "d_model", 768),
    Pair("num_hidden_layers", "num_layers", 12),
    Pair("num_attention_heads", "num_heads", 12),
    Pair("intermediate_size", "d_ff", 3072),
    Pair("image_size", "image_size", 224, side_pair, side_or_pair),
    Pair("patch_size", "patch_size", 16, one_side),
    Pair("num_channels", "in_channels", 3),
    Pair("qkv_bias", "qkv_bias", True),
    Pair("layer_norm_eps", "eps", 1e-12),
    Pair("hidden_dropout_prob", "dropout", 0.0),
    Pair("attention_probs_dropout_prob", "attention_dropout", 0.0),
)
REQUIRED = {"hidden_act": ("gelu", "gelu_python"), "model_type": ("vit",)}
IGNORED = (*SHARED_IGNORED, "encoder_stride", "pooler_output_size", "pooler_act")


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours."""
    found = [
        rule("vit.embeddings.cls_token", "cls_token"),
        rule("vit.embeddings.position_embeddings", "pos_embed"),
        rule("vit.embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
        rule("vit.layernorm.*", "norm.*"),
        rule("classifier.*", "head.*"),
    ]
    for i in range(config.num_layers):
        theirs, ours = f"vit.encoder.layer.{i}", f"blocks.{i}"
        qkv = [f"{theirs}.attention.attention.{part}.*" for part in ("query", "key", "value")]
        found += [
            rule(f"{theirs}.layernorm_before.*", f"{ours}.norm1.*"),
            rule(qkv, f"{ours}.attn.qkv.*", Concat(0)),
            rule(f"{theirs}.attention.output.dense.*", f"{ours}.attn.proj.*"),
            rule(f"{theirs}.layernorm_after.*", f"{ours}.norm2.*"),
            rule(f"{theirs}.intermediate.dense.*", f"{ours}.mlp.fc1.*"),
            rule(f"{theirs}.output.dense.*", f"{ours}.mlp.fc2.*"),
        ]
    return tuple(found)


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    options = read_pairs(config, where, PAIRS, REQUIRED, IGNORED)
    if options["d_ff"] == 4 * options["d_model"]:
        options["d_ff"] = None
    return component_tree(MODULE, {**options, "num_classes": read_classes(config, "ViTForImageClassification", where)})


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """transformers' `config.json`."""
    check_sayable(LAYOUTS[0], config, [*(pair.ours for pair in PAIRS), "num_classes"])
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_act": "gelu",
        **write_pairs(config, PAIRS),
        "intermediate_size": config.d_ff or 4 * config.d_model,
        **write_classes(config.num_classes, class_names),
    }


LAYOUTS = (
    Layout(
        library="transformers",
        module=MODULE,
        claims=lambda config: config.get("model_type") == "vit",
        read=read,
        write=write,
        rules=rules,
        preprocessing=read_preprocessing,
        write_preprocessing=write_preprocessing,
        prefix="vit.",
        fixed=lambda config: {"eps": 1e-12},  # where config.json is absent
        ignored=("vit.pooler.*", "vit.embeddings.mask_token"),
    ),
)
