"""The network of measurements of diffusion: DDPM's U-Net for CIFAR-10 (35.7 million parameters, 32 x 32), as diffusers
has it and in its layout on disk, so that ours starts from the same weights.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.limits import counted_flops
from bench.peers import peer

SIDE = 32
PRESET = "ddpm-cifar10"
_FITTED = 32  # pictures that a last layer is fitted to


def their_network() -> Any:
    """diffusers' UNet2DModel in the configuration of google/ddpm-cifar10-32, its own random weights."""
    torch.manual_seed(0)
    return peer("diffusers").UNet2DModel(
        sample_size=SIDE,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        attention_head_dim=None,
        norm_eps=1e-6,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
    )


def save_weights(network: Any, folder: str) -> str:
    """Its weights in diffusers' layout; the name of the directory."""
    path = Path(folder) / "unet"
    network.save_pretrained(path)
    return str(path)


@torch.no_grad()
def fit_output(network: Any) -> Any:
    """The network with a last convolution that tells the noise of smooth pictures from what random layers make of them,
    by least squares.

    The walk of a network whose predictions have nothing to do with its inputs multiplies every rounding error.
    """
    generator = torch.Generator().manual_seed(1)
    clean = F.interpolate(torch.randn(_FITTED, 3, 4, 4, generator=generator), size=(SIDE, SIDE), mode="bicubic")
    noise = torch.randn(_FITTED, 3, SIDE, SIDE, generator=generator)
    times = torch.linspace(0, 999, _FITTED).long()
    noisy = peer("diffusers").DDPMScheduler().add_noise(clean.clamp(-1, 1), noise, times)
    read: list[Tensor] = []
    hook = network.conv_out.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    network.eval()(noisy, times)
    hook.remove()
    columns = F.unfold(read[0], 3, padding=1).transpose(1, 2).flatten(0, 1)
    columns, wanted = columns.double(), noise.flatten(2).transpose(1, 2).flatten(0, 1).double()
    products = columns.T @ columns
    ridge = 1e-3 * products.diagonal().mean() * torch.eye(len(products), dtype=products.dtype)
    found = torch.linalg.solve(products + ridge, columns.T @ wanted)
    network.conv_out.weight.copy_(found.T.reshape(network.conv_out.weight.shape))
    network.conv_out.bias.zero_()
    return network


def flops(batch: int, *, backward: bool = False) -> float:
    """Of one pass of our network."""
    from layerwise.api.models import create_model

    def work() -> Tensor:
        network = create_model(PRESET, in_channels=3, num_classes=0)
        return network(torch.empty(batch, 3, SIDE, SIDE), torch.empty(batch))

    return counted_flops(work, backward=backward)
