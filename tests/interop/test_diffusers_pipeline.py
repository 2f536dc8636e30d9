"""Pipelines of diffusers, made tiny by diffusers itself: the same picture from the same noise, and saved back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import layerwise as lw
from layerwise.api.export import export
from layerwise.api.infer import generate
from layerwise.api.open import open_model
from layerwise.core.errors import CheckpointError, ConfigError, UnsupportedError
from layerwise.ops.random import Draws

# diffusers hands torch's tensors to numpy in a way that numpy warns of
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
WORDS = ["a", "cat", "dog", "red", "photo", "of"]
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "plms": ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False}),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    "heun": ("HeunDiscreteScheduler", {"steps_offset": 1}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {"steps_offset": 1}),
    "dpm++2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True, "steps_offset": 1}),
    "euler_karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "steps_offset": 1}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture(scope="session")
def diffusers(torchvision: ModuleType) -> ModuleType:
    """The library of reference pipelines; skips where it is not installed."""
    module = pytest.importorskip("diffusers")
    pytest.importorskip("tokenizers")
    module.utils.logging.disable_progress_bar()
    return module


def write_tokenizer(folder: Path, pad: str) -> None:
    """CLIP's form with a vocabulary of letters and a few words."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[str] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges += [] if f"{pieces[0]} {pieces[1]}" in merges else [f"{pieces[0]} {pieces[1]}"]
            pieces[:2] = [pieces[0] + pieces[1]]
            tokens += [] if pieces[0] in tokens else [pieces[0]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    specials = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = {**specials, "pad_token": pad, "tokenizer_class": "CLIPTokenizer", "model_max_length": 12}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps({**specials, "pad_token": pad}))


@pytest.fixture
def make(
    diffusers: ModuleType, randomised: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> Callable[..., tuple[Path, Any]]:
    """`make(version, scheduler)`: a tiny pipeline in the layout of Stable Diffusion 1 or 2, and where it lies."""
    transformers = pytest.importorskip("transformers")

    def build(version: int = 1, scheduler: str = "plms", prediction: str = "epsilon") -> tuple[Path, Any]:
        torch.manual_seed(0)
        write_tokenizer(tmp_path / "words", "<|endoftext|>" if version == 1 else "!")
        tokenizer = transformers.CLIPTokenizer.from_pretrained(str(tmp_path / "words"))
        unet = diffusers.UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=12, norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=2 if version == 1 else [1, 2], use_linear_projection=version == 2,
        )  # fmt: skip
        vae = diffusers.AutoencoderKL(
            block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=4,
            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, sample_size=16,
        )  # fmt: skip
        text = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=12, intermediate_size=24, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=12, hidden_act="quick_gelu" if version == 1 else "gelu",
                eos_token_id=2,
            )
        )  # fmt: skip
        name, options = SCHEDULERS[scheduler]
        steps = getattr(diffusers, name)(**BETAS, **options, prediction_type=prediction)
        pipeline = diffusers.StableDiffusionPipeline(
            vae=randomised(vae), text_encoder=randomised(text), tokenizer=tokenizer, unet=randomised(unet),
            scheduler=steps, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        pipeline.save_pretrained(tmp_path / "pipeline")
        return tmp_path / "pipeline", pipeline

    return build


def our_noise(seed: int, count: int, shape: tuple[int, ...]) -> Tensor:
    return Draws(seed, "image_generation", "generate").normal(torch.arange(count), shape, "latents")


def read(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def assert_same_picture(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Rounding may move a value over the edge between two bytes, never further."""
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs)
    assert difference.max() <= 1
    assert difference.mean() < 0.02
    assert theirs.std() > 5  # not a blank picture


@pytest.mark.parametrize(
    ("version", "scheduler", "prediction"),
    [
        (1, "plms", "epsilon"),
        (1, "ddim", "epsilon"),
        (1, "dpm++2m", "epsilon"),
        (2, "ddim", "v_prediction"),
        (2, "euler", "v_prediction"),
        (2, "heun", "epsilon"),
        (1, "dpm++2m_karras", "epsilon"),
        (2, "euler_karras", "v_prediction"),
    ],
)
def test_the_same_noise_and_prompt_give_the_same_picture(
    version: int, scheduler: str, prediction: str, make: Callable[..., tuple[Path, Any]], tmp_path: Path
) -> None:
    folder, pipeline = make(version, scheduler, prediction)
    options: dict[str, Any] = {"steps": 6, "guidance": 5.0, "negative": "a dog"}
    generate(
        folder, prompt="a photo of a red cat!", count=2, seed=3, out=str(tmp_path / "ours"), picture_options=options
    )
    wanted = pipeline(
        ["a photo of a red cat!"] * 2, negative_prompt=["a dog"] * 2, num_inference_steps=6, guidance_scale=5.0,
        latents=our_noise(3, 2, (4, 8, 8)), output_type="np",
    ).images  # fmt: skip
    for i in range(2):
        assert_same_picture(read(tmp_path / "ours" / f"{i:05d}.png"), (wanted[i] * 255).round().astype(int))


@pytest.mark.parametrize("scheduler", ["ddim", "euler_karras", "dpm++2m", "euler_a"])
def test_a_pipeline_that_is_saved_back_gives_diffusers_the_same_picture(
    scheduler: str, make: Callable[..., tuple[Path, Any]], diffusers: ModuleType, tmp_path: Path
) -> None:
    folder, pipeline = make(2, scheduler, "v_prediction")
    export(folder, "diffusers", tmp_path / "back")
    back = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "back", safety_checker=None)
    back.set_progress_bar_config(disable=True)
    latents = our_noise(0, 1, (4, 8, 8))
    pictures = [
        each(
            "a cat",
            num_inference_steps=4,
            latents=latents,
            output_type="np",
            generator=torch.Generator().manual_seed(1),
        ).images
        for each in (pipeline, back)
    ]
    assert np.array_equal(pictures[0], pictures[1])


def test_networks_of_a_pipeline_load_and_are_saved_back(make: Callable[..., tuple[Path, Any]], tmp_path: Path) -> None:
    folder, pipeline = make(1)
    network: Any = lw.from_pretrained(folder)
    lw.save_pretrained(network, tmp_path / "networks", "diffusers")
    back = type(pipeline.unet).from_pretrained(tmp_path / "networks" / "unet")
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in pipeline.unet.state_dict().items())
    lw.save_pretrained(network, tmp_path / "own")
    again: Any = lw.from_pretrained(tmp_path / "own")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_picture_does_not_depend_on_how_many_are_made(make: Callable[..., tuple[Path, Any]], tmp_path: Path) -> None:
    folder, _ = make(1, "ddim")
    for count in (1, 3):
        generate(
            folder, prompt="a cat", count=count, seed=1, out=str(tmp_path / str(count)), picture_options={"steps": 3}
        )
    assert np.array_equal(read(tmp_path / "1" / "00000.png"), read(tmp_path / "3" / "00000.png"))


def test_a_picture_to_start_from_gives_what_diffusers_gives(
    make: Callable[..., tuple[Path, Any]], diffusers: ModuleType, tmp_path: Path
) -> None:
    """DDIM from the middle: theirs draws the noise itself, so that its own draw is replaced by ours."""
    folder, pipeline = make(1, "ddim")
    pixels = np.random.default_rng(0).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC)
    picture.save(tmp_path / "start.png")
    options = {"steps": 8, "guidance": 3.0, "image": tmp_path / "start.png", "strength": 0.5}
    generate(folder, prompt="a cat", seed=2, out=str(tmp_path / "ours.png"), picture_options=options)
    network, task, _ = open_model(folder)
    noise = our_noise(2, 1, (4, 8, 8))
    with torch.no_grad():
        images = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        latents: Tensor = network.to_samples(images)  # pyright: ignore[reportCallIssue]
        scheduler = pipeline.scheduler
        scheduler.set_timesteps(8)
        tokens = task.captions.encode(["", "a cat"])  # pyright: ignore[reportAttributeAccessIssue]
        texts = pipeline.text_encoder(tokens)[0]
        x = scheduler.add_noise(latents, noise, scheduler.timesteps[4:5])
        for time in scheduler.timesteps[4:]:
            without, under = pipeline.unet(torch.cat([x, x]), time, encoder_hidden_states=texts).sample.chunk(2)
            x = scheduler.step(without + 3.0 * (under - without), time, x).prev_sample
        wanted = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample
    bytes_wanted = ((wanted[0] + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy().astype(int)
    assert_same_picture(read(tmp_path / "ours.png"), bytes_wanted)


def test_only_the_white_part_of_a_mask_is_made_anew(make: Callable[..., tuple[Path, Any]], tmp_path: Path) -> None:
    folder, _ = make(1, "ddim")
    network, task, _ = open_model(folder)
    Image.fromarray(np.full((16, 16, 3), 90, dtype=np.uint8)).save(tmp_path / "start.png")
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    kept: list[Tensor] = []
    network.to_images = lambda samples: kept.append(samples) or torch.zeros(1, 3, 16, 16)  # type: ignore[method-assign]
    from layerwise.tasks.denoising import PictureOptions

    options = PictureOptions(steps=4, image=tmp_path / "start.png", mask=tmp_path / "mask.png")
    task.make(network, 1, 0, "a cat", options)  # pyright: ignore[reportAttributeAccessIssue]
    images = torch.full((1, 3, 16, 16), 90 / 127.5 - 1)
    with torch.no_grad():
        start: Tensor = network.to_samples(images)  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(kept[0][:1, ..., :4], start[..., :4], rtol=1e-5, atol=1e-5)
    assert float((kept[0][:1, ..., 4:] - start[..., 4:]).abs().min()) > 1e-4


@pytest.mark.parametrize("clip", [True, False])
def test_a_pipeline_without_text_gives_the_same_pictures(
    clip: bool, diffusers: ModuleType, randomised: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=clip)
    pipeline = diffusers.DDIMPipeline(unet=randomised(unet), scheduler=scheduler)
    pipeline.save_pretrained(tmp_path / "pipeline")
    generate(tmp_path / "pipeline", count=1, seed=5, out=str(tmp_path / "ours.png"), picture_options={"steps": 5})
    x = our_noise(5, 1, (3, 8, 8))
    scheduler.set_timesteps(5)
    with torch.no_grad():
        for time in scheduler.timesteps:
            x = scheduler.step(unet(x, time).sample, time, x).prev_sample
    wanted = ((x[0] + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy().astype(int)
    assert_same_picture(read(tmp_path / "ours.png"), wanted)


@pytest.mark.parametrize(
    ("file", "key", "value", "word"),
    [
        ("model_index.json", "_class_name", "StableDiffusionXLPipeline", "StableDiffusionXLPipeline"),
        ("model_index.json", "text_encoder_2", ["transformers", "CLIPTextModel"], "text_encoder_2"),
        ("model_index.json", "text_encoder", ["transformers", "T5EncoderModel"], "T5EncoderModel"),
        ("scheduler/scheduler_config.json", "_class_name", "LMSDiscreteScheduler", "LMSDiscreteScheduler"),
        ("scheduler/scheduler_config.json", "prediction_type", "other", "prediction_type='other'"),
        ("scheduler/scheduler_config.json", "use_karras_sigmas", True, "use_karras_sigmas=True"),
        ("scheduler/scheduler_config.json", "lambda_min_clipped", -5.1, "lambda_min_clipped=-5.1"),
        ("unet/config.json", "class_embed_type", "timestep", "class_embed_type='timestep'"),
    ],
)
def test_what_is_not_implemented_is_named(
    file: str, key: str, value: Any, word: str, make: Callable[..., tuple[Path, Any]], tmp_path: Path
) -> None:
    folder, _ = make(1, "ddim")
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=word):
        generate(folder, prompt="a cat", out=str(tmp_path / "x.png"))


@pytest.mark.parametrize("in_parts", [False, True])
def test_a_pipeline_that_comes_as_a_variant_alone_gives_the_same_picture(
    in_parts: bool, make: Callable[..., tuple[Path, Any]], tmp_path: Path
) -> None:
    folder, pipeline = make(1, "ddim")
    pipeline.save_pretrained(tmp_path / "variant", variant="fp16", max_shard_size="20KB" if in_parts else "5GB")
    assert (len(list((tmp_path / "variant" / "unet").glob("*.safetensors"))) > 1) == in_parts
    pictures = []
    for source in (folder, tmp_path / "variant"):
        generate(source, prompt="a cat", out=str(tmp_path / "x.png"), picture_options={"steps": 3})
        pictures.append(read(tmp_path / "x.png"))
    assert np.array_equal(*pictures)
    shutil.copy(
        next((tmp_path / "variant" / "vae").glob("*.safetensors")),
        tmp_path / "variant" / "vae" / "diffusion_pytorch_model.ema.safetensors",
    )
    with pytest.raises(CheckpointError, match="several variants"):
        generate(tmp_path / "variant", prompt="a cat", out=str(tmp_path / "x.png"))


def test_mistakes_are_named(make: Callable[..., tuple[Path, Any]], tmp_path: Path) -> None:
    folder, _ = make(1, "ddim")
    out = str(tmp_path / "x.png")
    for options, word in (
        ({"sampler": "magic"}, "--sampler magic"),
        ({"steps": 0}, "--steps 0"),
        ({"steps": 1001}, "steps=1001"),
        ({"size": (10, 16)}, "10 x 16"),
        ({"strength": 2.0}, "--strength 2"),
        ({"mask": tmp_path / "mask.png"}, "--image"),
        ({"guidance": -1.0}, "--guidance"),
    ):
        with pytest.raises(ConfigError, match=word):
            generate(folder, prompt="a cat", out=out, picture_options=options)
    (folder / "tokenizer").rename(tmp_path / "away")
    with pytest.raises(UnsupportedError, match="tokenizer"):
        generate(folder, prompt="a cat", out=out)
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"vae/config\.json"):
        lw.from_pretrained(folder)
