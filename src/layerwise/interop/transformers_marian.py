"""transformers' `MarianMTModel`: the encoder-decoder Transformer of the opus-mt checkpoints. Imports no torch."""

from collections.abc import Sequence
from typing import Any

from layerwise.core.errors import CheckpointError
from layerwise.interop.config_pairs import Pair, read_pairs, write_pairs
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.rules import Constant, Rule, rule
from layerwise.interop.transformers import SHARED_IGNORED

Tree = dict[str, Any]
MODULE = "layerwise.models.language.transformer"
_THEIRS = {"swish": "swish", "silu": "swish", "relu": "relu", "gelu": "gelu"}
PAIRS = (
    Pair("vocab_size", "vocab_size", 58101),
    Pair("max_position_embeddings", "max_seq_len", 1024),
    Pair("d_model", "d_model", 1024),
    Pair("encoder_layers", "num_encoder_layers", 12),
    Pair("decoder_layers", "num_decoder_layers", 12),
    Pair("encoder_attention_heads", "num_heads", 16),
    Pair("encoder_ffn_dim", "d_ff", 4096),
    Pair("dropout", "dropout", 0.1),
    Pair("attention_dropout", "attention_dropout", 0.0),
    Pair("activation_dropout", "activation_dropout", 0.0),
    Pair("activation_function", "activation", "gelu", _THEIRS.get),
)
REQUIRED = {
    "activation_function": tuple(_THEIRS),
    "scale_embedding": (True,),
    "share_encoder_decoder_embeddings": (True,),
    "tie_word_embeddings": (True,),
    "static_position_embeddings": (True,),
    "normalize_before": (False,),
    "normalize_embedding": (False,),
    "add_final_layer_norm": (False,),
    "add_bias_logits": (False,),
}
_TWICE = {  # the decoder's value, which is ours for both halves
    "decoder_attention_heads": "encoder_attention_heads",
    "decoder_ffn_dim": "encoder_ffn_dim",
    "decoder_vocab_size": "vocab_size",
    "num_hidden_layers": "encoder_layers",
}
IGNORED = (
    *SHARED_IGNORED, *_TWICE, "model_type", "init_std", "encoder_layerdrop", "decoder_layerdrop", "classif_dropout",
    "classifier_dropout", "extra_pos_embeddings", "save_step", "bos_token_id", "eos_token_id", "pad_token_id",
    "decoder_start_token_id", "forced_eos_token_id", "bad_words_ids", "max_length", "num_beams", "task_specific_params",
)  # fmt: skip


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours."""

    def no_bias() -> Any:
        import torch

        return torch.zeros(1, config.vocab_size)

    bias = rule("final_logits_bias", "final_logits_bias")
    return (
        bias if config.output_bias else Rule(("final_logits_bias",), (), Constant(no_bias)),
        rule("model.*", "*"),
    )


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    if not config.get("scale_embedding", False):
        raise CheckpointError(
            f"{where}: scale_embedding=False changes what the network computes and is not implemented."
        )
    for own, other in _TWICE.items():
        default = next(pair.default for pair in PAIRS if pair.theirs == other)
        value, wanted = config.get(own), config.get(other, default)
        if value not in (None, wanted):
            raise CheckpointError(
                f"{where}: {own}={value!r} and {other}={wanted!r} differ; only equal ones are implemented."
            )
    options = read_pairs(config, where, PAIRS, REQUIRED, IGNORED)
    return component_tree(MODULE, {**options, "norm": "post", "output_bias": True})


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """transformers' `config.json`. The network does not know its special tokens: those of the opus-mt checkpoints are
    written, where a text ends with token 0 and the last token fills up and stands before a target.
    """
    check_sayable(LAYOUTS[0], config, [*(pair.ours for pair in PAIRS), "output_bias"])
    tree = write_pairs(config, PAIRS)
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "eos_token_id": 0,
        "pad_token_id": config.vocab_size - 1,
        "decoder_start_token_id": config.vocab_size - 1,
        **tree,
        **{own: tree[other] for own, other in _TWICE.items()},
        **{key: REQUIRED[key][0] for key in REQUIRED if key not in tree},
    }


LAYOUTS = (
    Layout(
        library="transformers",
        module=MODULE,
        claims=lambda config: config.get("model_type") == "marian",
        read=read,
        write=write,
        rules=rules,
        ignored=("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight",
                 "*.embed_positions.weight"),
    ),
)  # fmt: skip
