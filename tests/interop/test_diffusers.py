"""diffusers' directories, both ways: networks with weights away from their start, float32 1e-5 and float64 1e-9."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import layerwise as lw
from layerwise.api.configure import configure
from layerwise.core.errors import CheckpointError

Randomised = Callable[[nn.Module], nn.Module]
DDPM: dict[str, Any] = {
    "sample_size": 16, "in_channels": 3, "out_channels": 3, "block_out_channels": (8, 16), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4, "norm_eps": 1e-6, "attention_head_dim": None, "downsample_padding": 0,
    "flip_sin_to_cos": False, "freq_shift": 1,
}  # fmt: skip
SD1: dict[str, Any] = {
    "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "cross_attention_dim": 12,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 4, "attention_head_dim": 2,
}  # fmt: skip
VAE: dict[str, Any] = {
    "block_out_channels": (8, 16), "down_block_types": ("DownEncoderBlock2D",) * 2, "norm_num_groups": 4,
    "up_block_types": ("UpDecoderBlock2D",) * 2, "latent_channels": 4, "sample_size": 32,
}  # fmt: skip
DIT: dict[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 3, "num_layers": 2, "sample_size": 8,
    "num_embeds_ada_norm": 5,
}  # fmt: skip
UNETS: dict[str, dict[str, Any]] = {
    "ddpm": DDPM,
    "uneven-sides": {**DDPM, "sample_size": (8, 24), "in_channels": 1, "out_channels": 1},
    "classes": {**DDPM, "num_class_embeds": 7},
    "three-levels": {
        **DDPM, "block_out_channels": (8, 8, 16), "layers_per_block": 2,
        "down_block_types": ("AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    },
    "heads-and-scales": {
        **DDPM, "attention_head_dim": 4, "resnet_time_scale_shift": "scale_shift", "downsample_padding": 1,
        "flip_sin_to_cos": True, "freq_shift": 0, "norm_eps": 1e-3,
    },
}  # fmt: skip
CONDITIONAL: dict[str, dict[str, Any]] = {
    "sd1": SD1,
    "sd2": {**SD1, "attention_head_dim": [1, 2], "use_linear_projection": True, "upcast_attention": True},
    "inpainting": {**SD1, "in_channels": 9, "layers_per_block": 2},
    "deep": {**SD1, "transformer_layers_per_block": 2, "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-3},
}
AUTOENCODERS: dict[str, dict[str, Any]] = {
    "plain": VAE,
    "three-levels": {
        **VAE, "block_out_channels": (4, 8, 8), "down_block_types": ("DownEncoderBlock2D",) * 3, "in_channels": 1,
        "up_block_types": ("UpDecoderBlock2D",) * 3, "layers_per_block": 2, "out_channels": 1, "latent_channels": 3,
    },
    "no-attention": {**VAE, "mid_block_add_attention": False, "scaling_factor": 0.5},
}  # fmt: skip


@pytest.fixture(scope="session")
def diffusers(torchvision: ModuleType) -> ModuleType:
    """The library of reference networks; skips where it is not installed."""
    module = pytest.importorskip("diffusers")
    module.utils.logging.disable_progress_bar()
    return module


@pytest.fixture
def save(diffusers: ModuleType, randomised: Randomised, tmp_path: Path) -> Callable[..., Any]:
    """`save(kind, **options)`: a network of diffusers in `checkpoint`, as it saves itself."""

    def write(kind: str, options: dict[str, Any]) -> Any:
        network: Any = randomised(getattr(diffusers, kind)(**options))
        if kind == "DiTTransformer2DModel":
            _tie(network)
        network.save_pretrained(tmp_path / "checkpoint")
        return network

    return write


@torch.no_grad()
def _tie(network: Any) -> None:
    """All blocks the same embeddings of time and class, as the published weights have."""
    first = network.transformer_blocks[0].norm1.emb.state_dict()
    for block in network.transformer_blocks:
        block.norm1.emb.load_state_dict(first)


def _both_ways(
    theirs: Any,
    run_ours: Callable[[Any, torch.dtype], Tensor],
    run_theirs: Callable[[Any, torch.dtype], Tensor],
    assert_same: Callable[..., None],
    folder: Path,
) -> None:
    """Theirs loaded here, and ours saved and loaded there, compute the same."""
    ours = lw.from_pretrained(folder / "checkpoint")
    with torch.no_grad():
        wanted = run_theirs(theirs, torch.float32)
        assert_same(run_ours(ours, torch.float32), wanted)
        lw.save_pretrained(ours, folder / "back", "diffusers")
        back = type(theirs).from_pretrained(folder / "back").eval()
        assert torch.equal(run_theirs(back, torch.float32), wanted)
        twin = run_theirs(theirs.double(), torch.float64)
        assert_same(run_ours(ours.double(), torch.float64), twin, torch.float64)


@pytest.mark.parametrize("case", UNETS)
def test_unets_load_and_are_saved_back(
    case: str, save: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    options = UNETS[case]
    size = options["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    images, times = torch.randn(2, options["in_channels"], height, width), torch.tensor([3.0, 977.0])
    labels = torch.tensor([0, 6]) if "num_class_embeds" in options else None
    _both_ways(
        save("UNet2DModel", options),
        lambda net, dtype: net(images.to(dtype), times, labels),
        lambda net, dtype: net(images.to(dtype), times, labels).sample,
        assert_same,
        tmp_path,
    )


@pytest.mark.parametrize("case", CONDITIONAL)
def test_conditional_unets_load_and_are_saved_back(
    case: str, save: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    options = CONDITIONAL[case]
    latents = torch.randn(2, options.get("in_channels", 4), 8, 12)
    times, context = torch.tensor([1.0, 500.0]), torch.randn(2, 7, 12)
    _both_ways(
        save("UNet2DConditionModel", options),
        lambda net, dtype: net(latents.to(dtype), times, context.to(dtype)),
        lambda net, dtype: net(latents.to(dtype), times, context.to(dtype)).sample,
        assert_same,
        tmp_path,
    )


@pytest.mark.parametrize("case", AUTOENCODERS)
def test_autoencoders_load_and_are_saved_back(
    case: str, save: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    images = torch.rand(2, AUTOENCODERS[case].get("in_channels", 3), 16, 24) * 2 - 1

    def theirs(net: Any, dtype: torch.dtype) -> Tensor:
        found = net.encode(images.to(dtype)).latent_dist
        decoded = net.decode(found.mean).sample
        return torch.cat([found.mean.flatten(), found.logvar.flatten(), decoded.flatten()])

    _both_ways(
        save("AutoencoderKL", AUTOENCODERS[case]),
        lambda net, dtype: (lambda out: torch.cat([out[1].flatten(), out[2].flatten(), out[0].flatten()]))(
            net(images.to(dtype))
        ),
        theirs,
        assert_same,
        tmp_path,
    )


def test_older_names_of_an_autoencoders_attention_are_known(
    save: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    theirs = save("AutoencoderKL", VAE)
    path = tmp_path / "checkpoint" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(path)
    for new, name in old.items():
        state = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): v for key, v in state.items()}
    assert "decoder.mid_block.attentions.0.proj_attn.weight" in state
    save_file(state, path)
    latents = torch.randn(1, 4, 5, 6)
    ours: Any = lw.from_pretrained(tmp_path / "checkpoint")
    assert_same(ours.decode(latents), theirs.decode(latents).sample)


@pytest.mark.parametrize("options", [DIT, {**DIT, "out_channels": 6, "patch_size": 4, "norm_eps": 1e-3}], ids=str)
def test_dits_load_and_are_saved_back(
    options: dict[str, Any], save: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    images, times, labels = torch.randn(2, 3, 8, 8), torch.tensor([3, 977]), torch.tensor([0, 5])
    _both_ways(
        save("DiTTransformer2DModel", options),
        lambda net, dtype: net(images.to(dtype), times.to(dtype), labels),
        lambda net, dtype: net(images.to(dtype), times, labels).sample,
        assert_same,
        tmp_path,
    )


def test_a_dit_whose_blocks_embed_time_differently_is_refused(
    diffusers: ModuleType, randomised: Randomised, tmp_path: Path
) -> None:
    randomised(diffusers.DiTTransformer2DModel(**DIT)).save_pretrained(tmp_path / "checkpoint")  # pyright: ignore
    with pytest.raises(CheckpointError, match="share one weight"):
        lw.from_pretrained(tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("kind", "options", "key", "value", "word"),
    [
        ("UNet2DModel", DDPM, "time_embedding_type", "fourier", "time_embedding_type='fourier'"),
        ("UNet2DModel", DDPM, "down_block_types", ["DownBlock2D", "SkipDownBlock2D"], "'SkipDownBlock2D'"),
        ("UNet2DModel", DDPM, "out_channels", 6, "out_channels=6"),
        ("UNet2DModel", DDPM, "block_out_channels", 8, "block_out_channels=8"),
        ("UNet2DConditionModel", SD1, "addition_embed_type", "text_time", "addition_embed_type='text_time'"),
        ("UNet2DConditionModel", SD1, "up_block_types", ["CrossAttnUpBlock2D", "UpBlock2D"], "do not mirror"),
        ("UNet2DConditionModel", SD1, "layers_per_block", [1, 2], r"layers_per_block=\[1, 2\]"),
        ("UNet2DConditionModel", SD1, "a_new_option", 3, "a_new_option=3"),
        ("AutoencoderKL", VAE, "use_quant_conv", False, "use_quant_conv=False"),
        ("AutoencoderKL", VAE, "down_block_types", ["DownBlock2D", "DownBlock2D"], "DownBlock2D"),
        ("DiTTransformer2DModel", DIT, "norm_type", "layer_norm", "norm_type='layer_norm'"),
    ],
)
def test_a_configuration_that_is_not_implemented_is_named(
    kind: str, options: dict[str, Any], key: str, value: Any, word: str, save: Callable[..., Any], tmp_path: Path
) -> None:
    save(kind, options)
    path = tmp_path / "checkpoint" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=word):
        lw.from_pretrained(tmp_path / "checkpoint")


def test_weights_in_a_pickle_of_tensors_load(save: Callable[..., Any], tmp_path: Path) -> None:
    """Directories from before safetensors."""
    save("UNet2DModel", DDPM)
    path = tmp_path / "checkpoint" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    ours: Any = lw.from_pretrained(tmp_path / "checkpoint")
    assert ours.config.widths == (8, 16)


def test_a_training_from_a_unet_keeps_the_tasks_range_of_pictures(save: Callable[..., Any], tmp_path: Path) -> None:
    save("UNet2DModel", DDPM)
    recipe = configure("ddpm_fashion", {"init": str(tmp_path / "checkpoint")}.items()).recipe
    assert recipe.task.config.normalise == "symmetric"
    assert recipe.model.config.widths == (8, 16)
