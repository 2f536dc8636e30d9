"""A training step of denoising diffusion: DDPM's U-Net for CIFAR-10, 8 pictures of 32 x 32, gradients clipped, AdamW.

Ours is the recipe `ddpm_fashion` with that network and the noise of the paper, without averaged weights: precision,
memory format and optimiser as chosen. The peers are diffusers' UNet2DModel and DDPMScheduler in the plain loop of its
documentation, from the same weights: as it comes (float32, the default AdamW), and tuned (bf16 autocast, the fused
AdamW) with channels last and first, of which the faster counts. The loss of the first step tells whether all have the
same task.
"""

import tempfile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.diffusion_network import PRESET, SIDE, flops, save_weights, their_network
from bench.limits import sides
from bench.made import PicturesConfig, made_pictures
from bench.measure import OURS, Goal, Workload
from bench.pace import Pace
from bench.paced_recipe import train_paced
from bench.peers import peer
from bench.plain_loop import train_plainly

BATCH, PICTURES, RATE, CLIP = 8, 64, 1e-4, 1.0
WARM_UP, WINDOW = 2, 2  # steps


def ours(pace: Pace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        overrides: dict[str, Any] = {
            "data": {"name": "bench.made:Pictures", "count": PICTURES, "size": (SIDE, SIDE)},
            "model": PRESET,
            "init": save_weights(their_network(), folder),
            "task.condition": "none",
            "task.judge": None,
            "objective.process": {"schedule": "linear", "prediction": "eps"},
            "objective.min_snr": None,
            "batch_size": BATCH,
            "optimizer.lr": RATE,
            "optimizer.weight_decay": 0.01,
            "clip": CLIP,
            "ema": None,
        }
        train_paced(pace, "ddpm_fashion", overrides, warm_up=WARM_UP, window=WINDOW)


def _loop(pace: Pace, *, tuned: bool, channels_last: bool = False) -> None:
    scheduler, network = peer("diffusers").DDPMScheduler(), their_network()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    images, _ = made_pictures(PicturesConfig(count=PICTURES, size=(SIDE, SIDE)))
    pictures = images.float() / 127.5 - 1
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, fused=True if tuned else None)

    def loss() -> Tensor:
        clean = pictures[torch.randint(PICTURES, (BATCH,))]
        noise, times = torch.randn_like(clean), torch.randint(scheduler.config.num_train_timesteps, (BATCH,))
        noisy = scheduler.add_noise(clean, noise, times)
        if channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        return F.mse_loss(network(noisy, times).sample.float(), noise)

    note = ("bf16, channels_last, fused AdamW" if channels_last else "bf16, fused AdamW") if tuned else "fp32"
    train_plainly(pace, network, optimizer, loss, note, tuned=tuned, warm_up=WARM_UP, window=WINDOW, clip=CLIP)


def plain(pace: Pace) -> None:
    _loop(pace, tuned=False)


def tuned(pace: Pace) -> None:
    _loop(pace, tuned=True)


def tuned_channels_last(pace: Pace) -> None:
    _loop(pace, tuned=True, channels_last=True)


_side = sides(__name__, ("pictures/s", BATCH), lambda: flops(BATCH, backward=True))
PLAIN, TUNED, TUNED_LAST = "diffusers", "diffusers bf16", "diffusers bf16, channels_last"

WORKLOAD = Workload(
    title=f"training step of DDPM's U-Net for CIFAR-10, {BATCH} pictures of {SIDE} x {SIDE}, AdamW",
    unit="step",
    launches=1,
    turns=5,
    contenders=(
        _side(OURS, "ours", "bf16"),
        _side(PLAIN, "plain", "fp32"),
        _side(TUNED, "tuned", "bf16"),
        _side(TUNED_LAST, "tuned_channels_last", "bf16"),
    ),
    goals=(
        Goal(peers=(PLAIN,), kind="speedup", value=2.0),
        Goal(peers=(TUNED, TUNED_LAST), kind="speedup", value=1.25),
    ),
)
