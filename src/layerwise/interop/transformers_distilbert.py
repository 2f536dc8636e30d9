"""transformers' DistilBERT, with the heads of `models/language/distilbert.py`. Imports no torch."""

from collections.abc import Sequence
from typing import Any

from layerwise.interop import transformers_text as shared
from layerwise.interop.config_pairs import Pair
from layerwise.interop.layouts import Layout
from layerwise.interop.rules import Concat, Rule, Tie, rule

Tree = dict[str, Any]
MODULE = "layerwise.models.language.distilbert"
HEADS = {
    "DistilBertModel": "encoder",
    "DistilBertForSequenceClassification": "classifier",
    "DistilBertForTokenClassification": "tagger",
    "DistilBertForQuestionAnswering": "span",
    "DistilBertForMaskedLM": "masked_lm",
}
PAIRS = (
    Pair("vocab_size", "vocab_size", 30522),
    Pair("dim", "d_model", 768),
    Pair("n_layers", "num_layers", 6),
    Pair("n_heads", "num_heads", 12),
    Pair("hidden_dim", "d_ff", 3072),
    Pair("max_position_embeddings", "max_seq_len", 512),
    Pair("activation", "activation", "gelu", shared.ACTIVATIONS.__getitem__, shared.ACTIVATION_NAMES.__getitem__),
    Pair("dropout", "dropout", 0.1),
    Pair("attention_dropout", "attention_dropout", 0.1),
    Pair("seq_classif_dropout", "classifier_dropout", 0.2),
    Pair("qa_dropout", "span_dropout", 0.1),
)
# How the table of positions was drawn, which loaded weights no longer show; and how it was saved.
IGNORED = ("sinusoidal_pos_embds", "tie_weights_")


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours; those of every head."""
    words = ["distilbert.embeddings.word_embeddings.weight"]
    if config.head == "masked_lm":
        words.append("vocab_projector.weight")
    found = [
        rule(words, "embeddings.word_embeddings.weight", Tie()),
        rule("distilbert.embeddings.position_embeddings.weight", "embeddings.position_embeddings.weight"),
        rule("distilbert.embeddings.LayerNorm.*", "embeddings.norm.*"),
        rule("pre_classifier.*", "classifier.dense.*"),
        rule("classifier.*", "tagger.*" if config.head == "tagger" else "classifier.out.*"),
        rule("qa_outputs.*", "span.*"),
        rule("vocab_transform.*", "language.dense.*"),
        rule("vocab_layer_norm.*", "language.norm.*"),
        rule("vocab_projector.bias", "language.bias"),
    ]
    for i in range(config.num_layers):
        theirs, ours = f"distilbert.transformer.layer.{i}", f"blocks.{i}"
        found += [
            rule([f"{theirs}.attention.{part}_lin.*" for part in "qkv"], f"{ours}.attention.qkv.*", Concat(0)),
            rule(f"{theirs}.attention.out_lin.*", f"{ours}.attention.out.*"),
            rule(f"{theirs}.sa_layer_norm.*", f"{ours}.norm1.*"),
            rule(f"{theirs}.ffn.lin1.*", f"{ours}.fc1.*"),
            rule(f"{theirs}.ffn.lin2.*", f"{ours}.fc2.*"),
            rule(f"{theirs}.output_layer_norm.*", f"{ours}.norm2.*"),
        ]
    return tuple(found)


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    required = {"activation": tuple(shared.ACTIVATIONS)}
    return shared.read(MODULE, config, where, PAIRS, HEADS, required=required, ignored=IGNORED)


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """transformers' `config.json`."""
    return shared.write(LAYOUTS[0], config, class_names, PAIRS, HEADS, "distilbert")


LAYOUTS = (
    Layout(
        library="transformers",
        module=MODULE,
        claims=lambda config: config.get("model_type") == "distilbert",
        read=read,
        write=write,
        rules=rules,
        prefix="distilbert.",
        ignored=("distilbert.embeddings.position_ids",),
        older=shared.OLDER,
    ),
)
