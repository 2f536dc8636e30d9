"""timm's ViT: names are ours; sizes in `model_args` where they differ from the architecture's. Imports no torch."""

from collections.abc import Sequence
from typing import Any

from layerwise.core import discovery
from layerwise.interop.config_pairs import Pair, one_side, side_or_pair, side_pair
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.timm import architecture, read_preprocessing, read_timm, write_preprocessing, write_timm

Tree = dict[str, Any]
MODULE = "layerwise.models.vision.vit"
PRESETS = [n for n, (m, _) in discovery.catalogue("model").items() if m == MODULE and not n.endswith("-tiny")]
# Names of the same function: DeiT without distillation differs from ViT in how it was trained.
ALIASES = {
    "deit_tiny_patch16_224": "vit_tiny_patch16_224",
    "deit_small_patch16_224": "vit_small_patch16_224",
    "deit_base_patch16_224": "vit_base_patch16_224",
    "deit_base_patch16_384": "vit_base_patch16_384",
}
PAIRS = (
    Pair("img_size", "image_size", 224, side_pair, side_or_pair),
    Pair("patch_size", "patch_size", 16, one_side),
    Pair("embed_dim", "d_model", 768),
    Pair("depth", "num_layers", 12),
    Pair("num_heads", "num_heads", 12),
    Pair("qkv_bias", "qkv_bias", True),
)
REQUIRED = {
    "global_pool": ("token",), "qk_norm": (False,), "scale_attn_norm": (False,), "scale_mlp_norm": (False,),
    "proj_bias": (True,), "init_values": (None,), "class_token": (True,), "pos_embed": ("learn",),
    "no_embed_class": (False,), "reg_tokens": (0,), "pre_norm": (False,), "final_norm": (True,),
    "fc_norm": (None, False), "act_layer": (None, "gelu"), "norm_layer": (None, "layernorm"),
    "dynamic_img_pad": (False,),
}  # fmt: skip


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    name = ALIASES.get(architecture(config), architecture(config))
    args = dict(config.get("model_args") or {})
    ratio = args.pop("mlp_ratio", 4)
    tree = read_timm({**config, "model_args": args}, where, preset=name, pairs=PAIRS, required=REQUIRED)
    if ratio != 4:
        tree["d_ff"] = int(tree.get("d_model", discovery.spec("model", name).defaults.d_model) * ratio)
    return tree


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """timm's `config.json`."""
    said = [*(pair.ours for pair in PAIRS), "d_ff", "num_classes", "in_channels"]
    check_sayable(LAYOUTS[0], config, said)
    name = component_tree(MODULE, {pair.ours: getattr(config, pair.ours) for pair in PAIRS}, PRESETS)["name"]
    tree = write_timm(config, class_names, name=name, pairs=PAIRS, num_features=config.d_model, pool="token")
    if config.d_ff not in (None, 4 * config.d_model):
        tree.setdefault("model_args", {})["mlp_ratio"] = config.d_ff / config.d_model
    return tree


LAYOUTS = (
    Layout(
        library="timm",
        module=MODULE,
        claims=lambda config: architecture(config) in {*PRESETS, *ALIASES},
        read=read,
        write=write,
        preprocessing=read_preprocessing,
        write_preprocessing=write_preprocessing,
        fixed=lambda config: {"eps": 1e-6},
    ),
)
