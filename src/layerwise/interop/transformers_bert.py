"""transformers' BERT, with the heads of `models/language/bert.py`. Imports no torch.

Queries, keys and values are three matrices there, and the language head's matrix is the word embeddings.
"""

from collections.abc import Sequence
from typing import Any

from layerwise.interop import transformers_text as shared
from layerwise.interop.config_pairs import Pair
from layerwise.interop.layouts import Layout
from layerwise.interop.rules import Concat, Rule, Tie, rule

Tree = dict[str, Any]
MODULE = "layerwise.models.language.bert"
HEADS = {
    "BertModel": "encoder",
    "BertForSequenceClassification": "classifier",
    "BertForTokenClassification": "tagger",
    "BertForQuestionAnswering": "span",
    "BertForMaskedLM": "masked_lm",
    "BertForPreTraining": "pretraining",
}
PAIRS = (
    Pair("vocab_size", "vocab_size", 30522),
    Pair("hidden_size", "d_model", 768),
    Pair("num_hidden_layers", "num_layers", 12),
    Pair("num_attention_heads", "num_heads", 12),
    Pair("intermediate_size", "d_ff", 3072),
    Pair("max_position_embeddings", "max_seq_len", 512),
    Pair("type_vocab_size", "num_segments", 2),
    Pair("hidden_act", "activation", "gelu", shared.ACTIVATIONS.__getitem__, shared.ACTIVATION_NAMES.__getitem__),
    Pair("layer_norm_eps", "eps", 1e-12),
    Pair("hidden_dropout_prob", "dropout", 0.1),
    Pair("attention_probs_dropout_prob", "attention_dropout", 0.1),
    Pair("classifier_dropout", "classifier_dropout", None),
)


def block_rules(theirs: str, ours: str) -> list[Rule]:
    """Of a block of BERT or RoBERTa."""
    qkv = [f"{theirs}.attention.self.{part}.*" for part in ("query", "key", "value")]
    return [
        rule(qkv, f"{ours}.attention.qkv.*", Concat(0)),
        rule(f"{theirs}.attention.output.dense.*", f"{ours}.attention.out.*"),
        rule(f"{theirs}.attention.output.LayerNorm.*", f"{ours}.norm1.*"),
        rule(f"{theirs}.intermediate.dense.*", f"{ours}.fc1.*"),
        rule(f"{theirs}.output.dense.*", f"{ours}.fc2.*"),
        rule(f"{theirs}.output.LayerNorm.*", f"{ours}.norm2.*"),
    ]


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours; those of every head."""
    words = ["bert.embeddings.word_embeddings.weight"]
    if config.head in ("masked_lm", "pretraining"):
        words.append("cls.predictions.decoder.weight")
    found = [
        rule(words, "embeddings.word_embeddings.weight", Tie()),
        rule("bert.embeddings.position_embeddings.weight", "embeddings.position_embeddings.weight"),
        rule("bert.embeddings.token_type_embeddings.weight", "embeddings.token_type_embeddings.weight"),
        rule("bert.embeddings.LayerNorm.*", "embeddings.norm.*"),
        rule("bert.pooler.dense.*", "pooler.*"),
        rule("classifier.*", "tagger.*" if config.head == "tagger" else "classifier.*"),
        rule("qa_outputs.*", "span.*"),
        rule("cls.predictions.transform.dense.*", "language.dense.*"),
        rule("cls.predictions.transform.LayerNorm.*", "language.norm.*"),
        rule(("cls.predictions.bias", "cls.predictions.decoder.bias"), "language.bias", Tie()),
        rule("cls.seq_relationship.*", "next_sentence.*"),
    ]
    for i in range(config.num_layers):
        found += block_rules(f"bert.encoder.layer.{i}", f"blocks.{i}")
    return tuple(found)


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    required = {"hidden_act": tuple(shared.ACTIVATIONS)}
    return shared.read(MODULE, config, where, PAIRS, HEADS, required=required)


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """transformers' `config.json`."""
    return shared.write(LAYOUTS[0], config, class_names, PAIRS, HEADS, "bert")


LAYOUTS = (
    Layout(
        library="transformers",
        module=MODULE,
        claims=lambda config: config.get("model_type") == "bert",
        read=read,
        write=write,
        rules=rules,
        prefix="bert.",
        ignored=("bert.embeddings.position_ids",),
        older=shared.OLDER,
    ),
)
