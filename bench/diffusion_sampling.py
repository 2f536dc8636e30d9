"""Pictures from noise in 50 DDIM steps: DDPM's U-Net for CIFAR-10, 4 pictures of 32 x 32.

The same weights and the same noise on every side; weights are random but for the last layer, which is fitted to tell
noise. Ours is the walk that `layerwise generate` takes, on the
network as it prepares it: in the precision that it chooses, and in float32. The peer is diffusers' DDIMPipeline, as it
comes and in bfloat16. A side whose pictures differ from the pipeline's float32 ones by 1/255 or more on average is
refused; the difference is in the note.
"""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from bench.diffusion_network import SIDE, fit_output, flops, save_weights, their_network
from bench.limits import sides
from bench.measure import OURS, Goal, Workload
from bench.pace import NotRunError, Pace
from bench.peers import peer
from bench.plain_loop import autocast

BATCH, STEPS, SEED = 4, 50, 3
LARGEST = 1 / 255  # mean difference of pictures in [0, 1]


def _run(pace: Pace, make: Callable[[], Tensor], note: str, expected: Tensor | None = None) -> None:
    """Make the pictures again and again.

    Args:
        expected: what they are held against.

    Raises:
        NotRunError: they differ.
    """
    torch.set_flush_denormal(True)

    def pictures() -> Iterator[float]:
        while True:
            yield float(make().mean())

    if expected is not None:
        differs = float((make() - expected).abs().mean())
        if not differs < LARGEST:
            raise NotRunError(f"pictures in {note} differ by {255 * differs:.2f} of 255 on average")
        note = f"{note}; pictures differ by {255 * differs:.3f} of 255"
    pace.steps(pictures(), note, warm_up=1)


def _pipeline(*, bf16: bool) -> Callable[[], Tensor]:
    """diffusers' walk to pictures [B, 3, H, W] in [0, 1]."""
    diffusers = peer("diffusers")
    pipeline = diffusers.DDIMPipeline(unet=fit_output(their_network()), scheduler=diffusers.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)

    def make() -> Tensor:
        generator = torch.Generator().manual_seed(SEED)
        with autocast(bf16):
            found = pipeline(batch_size=BATCH, generator=generator, num_inference_steps=STEPS, output_type="pt")
        return found.images.float()

    return make


def _ours(pace: Pace, precision: Literal["auto", "fp32"]) -> None:
    from layerwise.api.infer import prepare_denoiser
    from layerwise.api.models import from_pretrained
    from layerwise.ops.noise_schedules import NoiseProcess
    from layerwise.ops.samplers import SamplerConfig
    from layerwise.tasks.denoising import take_noise_away

    expected = _pipeline(bf16=False)()
    with tempfile.TemporaryDirectory() as folder:
        loaded = from_pretrained(save_weights(fit_output(their_network()), folder)).eval()
    made, chosen = prepare_denoiser(loaded, precision)
    network: Any = made
    noise = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(SEED))

    def make() -> Tensor:
        with torch.inference_mode():
            found = take_noise_away(
                network,
                noise,
                lambda _: torch.empty(0),  # DDIM draws none
                process=NoiseProcess(),
                walk_config=SamplerConfig(steps=STEPS, clip=1.0),
            )
            return (network.to_images(found).float() / 2 + 0.5).clamp(0, 1)

    _run(pace, make, chosen, expected)


def ours(pace: Pace) -> None:
    _ours(pace, "auto")


def ours_fp32(pace: Pace) -> None:
    _ours(pace, "fp32")


def theirs(pace: Pace) -> None:
    _run(pace, _pipeline(bf16=False), "fp32")


def theirs_bf16(pace: Pace) -> None:
    _run(pace, _pipeline(bf16=True), "bf16 autocast", _pipeline(bf16=False)())


_side = sides(__name__, ("pictures/s", BATCH), lambda: STEPS * flops(BATCH))
OURS_FP32, THEIRS, THEIRS_BF16 = f"{OURS}, fp32", "diffusers", "diffusers bf16"

WORKLOAD = Workload(
    title=f"{STEPS} DDIM steps of DDPM's U-Net for CIFAR-10, {BATCH} pictures of {SIDE} x {SIDE}",
    unit="walk",
    launches=1,
    turns=3,
    contenders=(
        _side(OURS, "ours", "bf16"),
        _side(OURS_FP32, "ours_fp32", "fp32"),
        _side(THEIRS, "theirs", "fp32"),
        _side(THEIRS_BF16, "theirs_bf16", "bf16"),
    ),
    goals=(
        Goal(peers=(THEIRS,), kind="speedup", value=2.0),
        Goal(ours=OURS_FP32, peers=(THEIRS,), kind="speedup", value=1.3),
        Goal(peers=(THEIRS_BF16,), kind="speedup"),
    ),
)
