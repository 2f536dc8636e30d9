"""transformers' RoBERTa, with the heads of `models/language/roberta.py`. Imports no torch.

The table of positions has rows for what comes before the first token: as many as `pad_token_id` + 1.
"""

from collections.abc import Sequence
from typing import Any

from layerwise.interop import transformers_text as shared
from layerwise.interop.config_pairs import Pair
from layerwise.interop.layouts import Layout
from layerwise.interop.rules import Rule, Tie, rule
from layerwise.interop.transformers_bert import PAIRS as BERT_PAIRS
from layerwise.interop.transformers_bert import block_rules

Tree = dict[str, Any]
MODULE = "layerwise.models.language.roberta"
_OFFSET = 2
HEADS = {
    "RobertaModel": "encoder",
    "RobertaForSequenceClassification": "classifier",
    "RobertaForTokenClassification": "tagger",
    "RobertaForQuestionAnswering": "span",
    "RobertaForMaskedLM": "masked_lm",
}
PAIRS = (
    Pair("vocab_size", "vocab_size", 50265),
    Pair("max_position_embeddings", "max_seq_len", 512, lambda value: value - _OFFSET, lambda value: value + _OFFSET),
    *(pair for pair in BERT_PAIRS if pair.ours not in ("vocab_size", "max_seq_len")),
)


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours; those of every head."""
    words = ["roberta.embeddings.word_embeddings.weight"]
    if config.head == "masked_lm":
        words.append("lm_head.decoder.weight")
    found = [
        rule(words, "embeddings.word_embeddings.weight", Tie()),
        rule("roberta.embeddings.position_embeddings.weight", "embeddings.position_embeddings.weight"),
        rule("roberta.embeddings.token_type_embeddings.weight", "embeddings.token_type_embeddings.weight"),
        rule("roberta.embeddings.LayerNorm.*", "embeddings.norm.*"),
        rule("roberta.pooler.dense.*", "pooler.*"),
        rule("classifier.dense.*", "classifier.dense.*"),
        rule("classifier.out_proj.*", "classifier.out.*"),
        rule(["classifier.weight"], ["tagger.weight"]),
        rule(["classifier.bias"], ["tagger.bias"]),
        rule("qa_outputs.*", "span.*"),
        rule("lm_head.dense.*", "language.dense.*"),
        rule("lm_head.layer_norm.*", "language.norm.*"),
        rule(("lm_head.bias", "lm_head.decoder.bias"), "language.bias", Tie()),
    ]
    for i in range(config.num_layers):
        found += block_rules(f"roberta.encoder.layer.{i}", f"blocks.{i}")
    return tuple(found)


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    required = {"hidden_act": tuple(shared.ACTIVATIONS), "pad_token_id": (_OFFSET - 1,)}
    return shared.read(MODULE, config, where, PAIRS, HEADS, required=required)


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """transformers' `config.json`."""
    tree = shared.write(LAYOUTS[0], config, class_names, PAIRS, HEADS, "roberta")
    return {**tree, "pad_token_id": _OFFSET - 1, "bos_token_id": 0, "eos_token_id": 2}


LAYOUTS = (
    Layout(
        library="transformers",
        module=MODULE,
        claims=lambda config: config.get("model_type") == "roberta",
        read=read,
        write=write,
        rules=rules,
        prefix="roberta.",
        ignored=("roberta.embeddings.position_ids",),
        older=shared.OLDER,
    ),
)
