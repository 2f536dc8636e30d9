"""Convolutions that change the size of maps, with a low-pass filter folded into their weights.

Source: T. Karras et al., "Analyzing and improving the image quality of StyleGAN", CVPR 2020,
https://arxiv.org/abs/1912.04958 (appendix B); R. Zhang, "Making convolutional networks shift-invariant again", 2019.

Differs from the reference code: filter and convolution are composed into one kernel before they meet the map. Both are
linear and neither adds a border of its own in between, so the result is the same to rounding, in one pass over the map.

Shapes: B batch, I O channels, H W height and width, K kernel size, F taps of the filter.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = (1.0, 3.0, 3.0, 1.0)  # the paper's filter along each axis, before it is scaled to sum to one


def filter_kernel(taps: tuple[float, ...], like: Tensor) -> Tensor:
    """The separable filter [F, F] that sums to one, in dtype and on the device of `like`."""
    line = torch.tensor(taps, device=like.device, dtype=like.dtype)
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def compose(weight: Tensor, taps: tuple[float, ...] = TAPS) -> Tensor:
    """Kernels [O, I, K, K] convolved with the filter: [O, I, K + F - 1, K + F - 1]."""
    kernel = filter_kernel(taps, weight)
    rim = len(taps) - 1
    flat = weight.reshape(-1, 1, *weight.shape[2:])  # the filter is symmetric: correlation is convolution
    return F.conv2d(flat, kernel[None, None], padding=rim).view(*weight.shape[:2], *(s + rim for s in weight.shape[2:]))


def conv_down(x: Tensor, weight: Tensor) -> Tensor:
    """Low-pass filter, then convolution with stride 2: [B, I, H, W] -> [B, O, H / 2, W / 2].

    Args:
        x: even height and width.
        weight: [O, I, K, K], K odd.
    """
    whole = compose(weight)
    return F.conv2d(x, whole.to(x.dtype), stride=2, padding=whole.shape[-1] // 2 - 1)


def conv_up(x: Tensor, weight: Tensor) -> Tensor:
    """Zeros between pixels, convolution, low-pass filter with gain 4: [B, I, H, W] -> [B, O, 2 H, 2 W].

    Args:
        weight: [O, I, K, K], K odd.
    """
    whole = 4.0 * compose(weight)
    return F.conv_transpose2d(x, whole.to(x.dtype).transpose(0, 1), stride=2, padding=whole.shape[-1] // 2 - 1)


def upsample(x: Tensor) -> Tensor:
    """Zeros between pixels and low-pass filter with gain 4, channel by channel: [B, C, H, W] -> [B, C, 2 H, 2 W]."""
    channels = x.shape[1]
    kernel = 4.0 * filter_kernel(TAPS, x).expand(channels, 1, len(TAPS), len(TAPS))
    return F.conv_transpose2d(x, kernel, stride=2, padding=len(TAPS) // 2 - 1, groups=channels)
