"""A network that is asked again and again on the way from noise to pictures, laid out for that on a CPU.

Weights of convolutions and matrices are laid out once as oneDNN's kernels read them, maps have channels last, and the
sum at the end of a residual block is computed where its convolution writes its result. Its forward and all of its other
methods stay: layers are exchanged, nothing is traced.
"""

import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.infer.freeze import FusedConv2d
from layerwise.infer.pack_linear import PackedLinear
from layerwise.nn.resnet_block import ResnetBlock2D
from layerwise.nn.timestep_embedding import TimestepEmbedding

_NARROW = 16  # channels in or out below which a convolution stays in float32


class PackedResnetBlock(nn.Module):
    """`ResnetBlock2D` whose last sum is computed inside its second convolution.

    Args:
        block: with convolutions that are packed already.
    """

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        assert isinstance(block.conv2, FusedConv2d)
        self.block, self.conv2 = block, block.conv2
        other = block.conv_shortcut  # whose result is read nowhere else
        self.conv2.overwrites = isinstance(other, FusedConv2d) and other.dtype == self.conv2.dtype

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        return self.conv2(self.block.inner(x, time), self.block.shortcut(x))


def pack_denoiser(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The network itself, changed: for inference alone, equal up to rounding. Its weights are not kept twice.

    Args:
        network: in eval mode, float32, on a CPU. Layers that were changed from outside stay as they are.
        dtype: of products and convolutions, but for those of few numbers that all others build on (the first and the
            last convolution, the embedding of the time); bfloat16 where the machine multiplies it natively.

    Raises:
        UnsupportedError: it is in training mode, elsewhere or of another type, or torch was built without oneDNN.
    """
    if network.training:
        raise UnsupportedError("pack_denoiser is for inference: call network.eval() first.")
    if not torch.backends.mkldnn.is_available() or any(
        each.device.type != "cpu" or each.dtype != torch.float32 for each in network.parameters()
    ):
        raise UnsupportedError("Networks are packed on a CPU with oneDNN and from float32.")
    network.requires_grad_(False)
    of_times = _layers_of_times(network)
    for name, module in list(network.named_modules()):
        if _is_watched(module):
            continue
        if type(module) is nn.Linear:
            chosen = torch.float32 if module in of_times else dtype
            bias = None if module.bias is None else module.bias.to(chosen)
            network.set_submodule(name, PackedLinear(module.weight.to(chosen), bias))
        elif type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            narrow = min(module.in_channels, module.out_channels) < _NARROW
            network.set_submodule(name, FusedConv2d(module, torch.float32 if narrow else dtype))
    for name, module in list(network.named_modules()):
        if type(module) is ResnetBlock2D and isinstance(module.conv2, FusedConv2d) and not _is_watched(module):
            network.set_submodule(name, PackedResnetBlock(module))
    return network


def _layers_of_times(network: nn.Module) -> set[nn.Module]:
    """What the time goes through before it meets a map: few numbers, which every position reads."""
    found: set[nn.Module] = set()
    for module in network.modules():
        if isinstance(module, TimestepEmbedding):
            found |= {module.linear_1, module.linear_2}
        elif isinstance(module, ResnetBlock2D) and module.time_emb_proj is not None:
            found.add(module.time_emb_proj)
    return found


def _is_watched(module: nn.Module) -> bool:
    """Whether hooks were put on it from outside."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
