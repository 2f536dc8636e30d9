"""diffusers' pipelines: a folder a network, and `model_index.json` that names their classes. Imports no torch.

Text to picture with Stable Diffusion 1 and 2 (`StableDiffusionPipeline`), and pictures without a text from one U-Net
(`DDPMPipeline`, `DDIMPipeline`). The safety checker and its feature extractor are left out: they look at the finished
picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerwise.core.errors import CheckpointError
from layerwise.interop.layouts import Checkpoint, Layout, component_tree, read_json, recognise

Tree = dict[str, Any]
MODULE = "layerwise.models.generative.latent_diffusion"
INDEX, SCHEDULER, TOKENIZER = "model_index.json", "scheduler/scheduler_config.json", "tokenizer"
CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
}
ONE_NETWORK = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")
TEXT = "StableDiffusionPipeline"
IGNORED = ("safety_checker", "feature_extractor", "requires_safety_checker", "image_encoder")


def recognise_pipeline(source: str, folder: Path) -> Checkpoint:
    """What a directory with `model_index.json` holds.

    Raises:
        CheckpointError: another pipeline or network, or a part is missing.
    """
    index, where = read_json(folder / INDEX), str(folder / INDEX)
    kind = index.get("_class_name")
    if kind in ONE_NETWORK:
        unet = _part(folder, "unet")
        return Checkpoint(
            source=source, library="diffusers", model=unet.model, files=unet.files, layout=unet.layout,
            companions=_companions(folder),
        )  # fmt: skip
    if kind != TEXT:
        known = ", ".join((TEXT, *ONE_NETWORK))
        raise CheckpointError(f"{where}: the pipeline {kind!r} is none that can be loaded here; {known} are.")
    for name in index:
        if name.startswith("_") or name in (*CLASSES, *IGNORED, "scheduler", "tokenizer"):
            continue
        raise CheckpointError(f"{where}: the part {name!r} is not known here and may change the picture.")
    for name, wanted in CLASSES.items():
        if tuple(index.get(name) or ()) != wanted:
            raise CheckpointError(f"{where}: {name}={index.get(name)!r} is not implemented here; {list(wanted)} is.")
    parts = {name: _part(folder, name) for name in CLASSES}
    tree = component_tree(MODULE, {name: part.model for name, part in parts.items()})
    return Checkpoint(
        source=source, library="diffusers", model=tree, files=(), layout=LAYOUTS[0], parts=parts,
        companions=_companions(folder),
    )  # fmt: skip


def _part(folder: Path, name: str) -> Checkpoint:
    if not (folder / name / "config.json").is_file():
        raise CheckpointError(f"{folder} lacks {name}/config.json, which its {INDEX} names.")
    return recognise(folder / name)


def _companions(folder: Path) -> dict[str, Path]:
    found = {name: folder / name for name in (SCHEDULER, TOKENIZER) if (folder / name).exists()}
    if SCHEDULER not in found:
        raise CheckpointError(f"{folder} lacks {SCHEDULER}, which says how noise is taken away.")
    return found


def scheduler_class(scheduler: Tree) -> Tree:
    """The entry of `model_index.json` for a `scheduler_config.json`."""
    return {"scheduler": ["diffusers", scheduler["_class_name"]]}


def read(config: Tree, where: str) -> Tree:
    """Never asked: pipelines are recognised by their folders."""
    raise CheckpointError(f"{where}: a pipeline is a directory with {INDEX}.")


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """`model_index.json`; scheduler and tokeniser are named in it and written by `layerwise export`."""
    return {
        "_class_name": TEXT,
        **{name: list(pair) for name, pair in CLASSES.items()},
        "scheduler": ["diffusers", "DDIMScheduler"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }


LAYOUTS = (
    Layout(
        library="diffusers",
        module=MODULE,
        claims=lambda config: False,
        read=read,
        write=write,
        parts={name: library for name, (library, _) in CLASSES.items()},
        index=INDEX,
    ),
)
