"""Which precision products are computed in, and the context that does it.

"bf16" keeps weights, gradients and optimiser state in float32 and lets autocast run products in bf16; what needs
float32 (softmax, losses, norms) stays there. float16 is never used.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import nn

from layerwise.core.errors import UnsupportedError
from layerwise.optim.machine import has_bf16

Precision = Literal["fp32", "bf16"]

# Narrowest product from which bf16 pays. Training steps on a CPU with AVX512_BF16 and AMX, fp32 time over bf16 time:
# transformers 64 wide 0.86, 128 wide 1.2, 256 wide 1.4, 512 wide 2.7; LeNet-5 0.93, convolutions of 16 channels 1.9, of
# 32 channels 3.2. Below, casts eat the gain.
_MIN_WIDTH = 256
_MIN_CHANNELS = 32


def resolve_precision(wanted: Literal["auto", "fp32", "bf16"], device: torch.device, network: nn.Module) -> Precision:
    """Decide by rule, never by timing, so that the same machine type always trains the same way.

    "auto" is bf16 where the device computes bf16 products natively (AVX512_BF16, AMX, Arm BF16, GPUs from Ampere on),
    weights are float32, and
    some product of the network is wide enough to gain: a convolution with at least 32 channels in and out, or any
        other weight matrix of at
    least 256 x 256 that is not an embedding table.

    Raises:
        UnsupportedError: "bf16" was asked for and would be emulated here.
    """
    if wanted == "fp32":
        return "fp32"
    native = has_bf16(device.type)
    if wanted == "bf16":
        if not native:
            raise UnsupportedError(
                f"precision=bf16: this {device.type} has no bf16 products. Use precision=fp32 or auto."
            )
        return "bf16"
    return "bf16" if native and _gains(network) else "fp32"


def _gains(network: nn.Module) -> bool:
    if any(p.dtype == torch.float64 for p in network.parameters()):
        return False
    for module in network.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            continue
        for p in module.parameters(recurse=False):
            if p.ndim == 2 and min(p.shape) >= _MIN_WIDTH:
                return True
            if p.ndim > 2 and min(p.shape[:2]) >= _MIN_CHANNELS:
                return True
    return False


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context for forward passes; nothing for "fp32"."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
