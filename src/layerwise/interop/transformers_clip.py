"""transformers' `CLIPTextModel`. Names of tensors are ours; newer files leave the first part out. Imports no torch."""

from collections.abc import Sequence
from typing import Any

from layerwise.interop.config_pairs import Pair, read_pairs, write_pairs
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.rules import Rule, rule
from layerwise.interop.transformers import SHARED_IGNORED

Tree = dict[str, Any]
MODULE = "layerwise.models.multimodal.clip"
OLD_END = 2  # files from before the number was put right: the highest token ends a text
PAIRS = (
    Pair("vocab_size", "vocab_size", 49408),
    Pair("max_position_embeddings", "max_seq_len", 77),
    Pair("hidden_size", "d_model", 512),
    Pair("num_hidden_layers", "num_layers", 12),
    Pair("num_attention_heads", "num_heads", 8),
    Pair("intermediate_size", "d_ff", 2048),
    Pair("hidden_act", "activation", "quick_gelu"),
    Pair("layer_norm_eps", "eps", 1e-5),
    Pair("eos_token_id", "end_token", 49407, lambda token: None if token == OLD_END else int(token),
         lambda token: OLD_END if token is None else token),
)  # fmt: skip
REQUIRED = {
    "hidden_act": ("quick_gelu", "gelu"),
    "model_type": ("clip_text_model",),
    "attention_dropout": (0, 0.0),
    "dropout": (0, 0.0),
}
IGNORED = (*SHARED_IGNORED, "projection_dim", "initializer_factor", "pad_token_id", "bos_token_id")


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours."""
    return (rule("text_model.*", "text_model.*"),)


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    options = read_pairs(config, where, PAIRS, REQUIRED, IGNORED)
    if options["d_ff"] == 4 * options["d_model"]:
        options["d_ff"] = None
    return component_tree(MODULE, options)


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """transformers' `config.json`."""
    check_sayable(LAYOUTS[0], config, [pair.ours for pair in PAIRS])
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        **write_pairs(config, PAIRS),
        "intermediate_size": config.d_ff or 4 * config.d_model,
    }


LAYOUTS = (
    Layout(
        library="transformers",
        module=MODULE,
        claims=lambda config: config.get("model_type") == "clip_text_model",
        read=read,
        write=write,
        rules=rules,
        prefix="text_model.",
        ignored=("text_model.embeddings.position_ids",),
    ),
)
