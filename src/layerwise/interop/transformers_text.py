"""What text encoders of transformers share: heads by architecture, keys of `config.json`. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.core.errors import CheckpointError, UnsupportedError
from layerwise.interop.config_pairs import Pair, read_pairs, write_pairs
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.transformers import SHARED_IGNORED, read_classes, write_classes

Tree = dict[str, Any]
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
# Their keys that change the function -> what is implemented.
REQUIRED: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
}
# Keys that change nothing that an encoder computes: generation, training, and what older versions wrote.
IGNORED = (
    *SHARED_IGNORED, "model_type", "pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id",
    "cross_attention_hidden_size", "decoder_start_token_id", "output_past", "directionality", "pooler_fc_size",
    "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "use_bfloat16",
    "max_length", "num_beams", "do_sample", "temperature", "top_k", "top_p",
)  # fmt: skip
OLDER = {".gamma": ".weight", ".beta": ".bias"}  # of norms, in files made from TensorFlow's


def read_head(config: Tree, heads: Mapping[str, str], where: str) -> str:
    """Our head of their architecture; the bare encoder where the file does not say.

    Args:
        heads: architecture -> head.

    Raises:
        CheckpointError: another architecture.
    """
    named = config.get("architectures") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise CheckpointError(f"{where}: architectures={named!r} should be a list of names.")
    found = next((heads[name] for name in named if name in heads), None)
    if named and found is None:
        raise CheckpointError(f"{where}: architectures={named!r}: {', '.join(heads)} can be loaded here.")
    return found or "encoder"


def read(module: str, config: Tree, where: str, pairs: Sequence[Pair], heads: Mapping[str, str], **more: Any) -> Tree:
    """Our component of an encoder.

    Args:
        module: dotted name of our model's module.
        pairs: values that both sides have.
        heads: architecture -> head.
        more: `required` and `ignored` keys beside those of all encoders.
    """
    required = {**REQUIRED, **more.get("required", {})}
    options = read_pairs(config, where, pairs, required, (*IGNORED, *more.get("ignored", ())))
    if options["d_ff"] == 4 * options["d_model"]:
        options["d_ff"] = None
    head = read_head(config, heads, where)
    architecture = next((name for name, ours in heads.items() if ours == head), "")
    classes = read_classes({**config, "architectures": [architecture]}, architecture, where)
    return component_tree(
        module, {**options, "head": head, "num_classes": classes if head in ("classifier", "tagger") else None}
    )


def write(
    layout: Layout,
    config: Any,
    class_names: Sequence[str],
    pairs: Sequence[Pair],
    heads: Mapping[str, str],
    model_type: str,
) -> Tree:
    """Their `config.json` of an encoder; an encoder for embeddings is written as the bare one."""
    check_sayable(layout, config, [*(pair.ours for pair in pairs), "num_classes", "head"])
    head = config.head or "encoder"
    wanted = "encoder" if head == "embedding" else head
    architecture = next((name for name, ours in heads.items() if ours == wanted), None)
    if architecture is None:
        raise UnsupportedError(f"format=transformers: {model_type} has no architecture with head={head} there.")
    tree: Tree = {"architectures": [architecture], "model_type": model_type, **write_pairs(config, pairs)}
    width = next(pair.theirs for pair in pairs if pair.ours == "d_ff")
    tree[width] = config.d_ff or 4 * config.d_model
    return {**tree, **(write_classes(config.num_classes, class_names) if head in ("classifier", "tagger") else {})}
