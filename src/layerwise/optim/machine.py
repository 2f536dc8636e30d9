"""What the machine computes natively: bf16 products and fused optimiser steps."""

import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from layerwise.core.errors import UnsupportedError

Implementation = Literal["fused", "foreach", "loop"]


@cache
def has_bf16(device_type: str) -> bool:
    """Whether matrix products in bf16 are instructions of that device and not emulated.

    On CPUs: AVX512_BF16 or AMX on x86, the BF16 extension on Arm.
    """
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "mps":
        return torch.backends.mps.is_available() and torch.backends.mps.is_macos_or_newer(14, 0)
    return device_type == "cpu" and bool(_cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def _cpu_flags() -> set[str]:
    """Instruction-set flags of the CPU as Linux names them; elsewhere those that torch knows."""
    listing = Path("/proc/cpuinfo")
    if platform.system() == "Linux" and listing.exists():
        lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
        return {
            flag
            for line in lines
            if line.lower().startswith(("flags", "features"))
            for flag in line.split(":", 1)[1].split()
        }
    return {name for name, value in torch.cpu.get_capabilities().items() if value is True}


def resolve_implementation(
    wanted: Literal["auto", "fused", "foreach", "loop"], parameters: Iterable[Tensor], fused_devices: tuple[str, ...]
) -> Implementation:
    """Which form of an optimiser's step runs: fused where it exists for the device, else foreach.

    Forms differ in the last bits, so that the choice is part of the training state.

    Args:
        wanted: "auto" or an explicit choice.
        parameters: what is trained.
        fused_devices: device types for which the optimiser has a fused step.

    Raises:
        UnsupportedError: "fused" was asked for and does not exist here.
    """
    parameters = list(parameters)
    devices = {p.device.type for p in parameters}
    dense = all(torch.empty_like(p, device="meta").stride() == p.stride() or p.is_contiguous() for p in parameters)
    possible = devices <= set(fused_devices) and dense and all(p.is_floating_point() for p in parameters)
    if wanted == "fused" and not possible:
        why = f"exists for {', '.join(fused_devices)}" if fused_devices else "does not exist for this optimiser"
        where = "/".join(sorted(devices))
        raise UnsupportedError(
            f"optimizer.implementation=fused: a fused step {why} and dense real parameters (here {where}). Use auto."
        )
    if wanted != "auto":
        return wanted
    return "fused" if possible else "foreach"
