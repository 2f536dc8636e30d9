"""torchvision's ViT: one matrix for queries, keys and values, as ours, under other names. Imports no torch."""

from typing import Any

from layerwise.interop.rules import Rule, rule
from layerwise.interop.torchvision import torchvision_layout

NAMES = {
    "vit_base_patch16_224": "vit_b_16",
    "vit_base_patch32_224": "vit_b_32",
    "vit_large_patch16_224": "vit_l_16",
    "vit_large_patch32_224": "vit_l_32",
    "vit_huge_patch14_224": "vit_h_14",
}


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours."""
    found = [
        rule("class_token", "cls_token"),
        rule("encoder.pos_embedding", "pos_embed"),
        rule("conv_proj.*", "patch_embed.proj.*"),
        rule("encoder.ln.*", "norm.*"),
        rule("heads.head.*", "head.*"),
    ]
    for i in range(config.num_layers):
        theirs, ours = f"encoder.layers.encoder_layer_{i}", f"blocks.{i}"
        found += [
            rule(f"{theirs}.ln_1.*", f"{ours}.norm1.*"),
            rule(f"{theirs}.self_attention.in_proj_weight", f"{ours}.attn.qkv.weight"),
            rule(f"{theirs}.self_attention.in_proj_bias", f"{ours}.attn.qkv.bias"),
            rule(f"{theirs}.self_attention.out_proj.*", f"{ours}.attn.proj.*"),
            rule(f"{theirs}.ln_2.*", f"{ours}.norm2.*"),
            rule(f"{theirs}.mlp.0.*", f"{ours}.mlp.fc1.*"),
            rule(f"{theirs}.mlp.3.*", f"{ours}.mlp.fc2.*"),
        ]
    return tuple(found)


LAYOUTS = (torchvision_layout("layerwise.models.vision.vit", NAMES, rules=rules),)
