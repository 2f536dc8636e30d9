"""What picture classifiers of transformers share: class names and `preprocessor_config.json`. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.core.errors import CheckpointError
from layerwise.interop.preprocessing import Preprocessing, from_transformers, to_transformers

Tree = dict[str, Any]
# Keys of every `config.json` there that do not change what a network computes.
SHARED_IGNORED = (
    "architectures", "id2label", "label2id", "num_labels", "problem_type", "torch_dtype", "dtype",
    "transformers_version", "initializer_range", "return_dict", "output_attentions", "output_hidden_states",
    "use_cache", "name_or_path", "finetuning_task", "license", "tags", "is_encoder_decoder", "is_decoder",
    "chunk_size_feed_forward", "tie_word_embeddings", "torchscript", "pruned_heads", "gradient_checkpointing",
    "attn_implementation", "image_mean", "image_std", "auto_map",
)  # fmt: skip


def read_classes(config: Tree, classifier: str, where: str) -> int | None:
    """How many classes; None where the checkpoint is the body without a classifier.

    Raises:
        CheckpointError: another head, or another kind of labels.
    """
    named = config.get("architectures") or [classifier]
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise CheckpointError(f"{where}: architectures={named!r} should be a list of names.")
    if classifier not in named:
        return None
    labels = config.get("id2label")
    classes = len(labels) if isinstance(labels, Mapping) else config.get("num_labels", 2)
    if not isinstance(classes, int) or classes < 1:
        raise CheckpointError(f"{where}: num_labels={classes!r} should be a number of classes.")
    return classes


def write_classes(num_classes: int, class_names: Sequence[str]) -> Tree:
    """`id2label` and `label2id`."""
    names = list(class_names) or [f"LABEL_{i}" for i in range(num_classes)]
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def read_preprocessing(files: Mapping[str, Tree], where: str) -> Preprocessing | None:
    """Of the files beside the weights."""
    tree = files.get("preprocessor_config.json")
    return None if tree is None else from_transformers(tree, where.replace("config.json", "preprocessor_config.json"))


def write_preprocessing(preprocessing: Preprocessing) -> Mapping[str, Tree]:
    """Files to write."""
    return {"preprocessor_config.json": to_transformers(preprocessing)}
