"""A network for inference alone on a CPU whose matrices are laid out once as oneDNN's kernels read them.

Decoding multiplies the same matrices by few rows again and again. torch's own float32 product (MKL) reached 110
GFLOP/s on one core of an AMD EPYC (Zen 5), oneDNN's on packed weights 250, with the same result up to rounding.

Shapes: * any sizes, I O numbers in and out.
"""

import copy

import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.nn.tied_output import TiedOutput

_ROWS = 1024  # that weights are laid out for; other numbers of rows give the same result


class PackedLinear(nn.Module):
    """`x W^T + b`, with GELU or a sum inside the product.

    Args:
        weight, bias: [O, I] and [O] or None, on a CPU, of the type that results have.

    Shape:
        x [*, I], other [*, O] -> [*, O].
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor, other: Tensor | None = None, gelu: str | None = None) -> Tensor:
        x = x.to(self.weight.dtype)
        if other is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")
        kind = ("none", "") if gelu is None else ("gelu", gelu)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, kind[0], [], kind[1])


class _PackedOutput(nn.Module):
    """`TiedOutput` that packs the table when it first sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.packed: PackedLinear | None = None

    def forward(self, x: Tensor, table: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.packed is None:
            self.packed = PackedLinear(table, None if bias is None else bias.flatten())
        return self.packed(x)


def pack_linears(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy with the same forward for inference alone, equal up to rounding; later changes of weights are not seen.

    Args:
        network: in eval mode, float32, on a CPU. Linear layers that were changed from outside stay as they are.
        dtype: of weights and products; bfloat16 where the machine multiplies it natively.

    Raises:
        UnsupportedError: it is in training mode, elsewhere or of another type, or torch was built without oneDNN.
    """
    if network.training:
        raise UnsupportedError("pack_linears is for inference: call network.eval() first.")
    weights = list(network.parameters())
    if not torch.backends.mkldnn.is_available() or any(
        each.device.type != "cpu" or each.dtype != torch.float32 for each in weights
    ):
        raise UnsupportedError("Weights are packed on a CPU with oneDNN and from float32.")
    made = copy.deepcopy(network).requires_grad_(False).to(dtype)
    for name, module in list(made.named_modules()):
        if type(module) is nn.Linear and not module._forward_hooks and not module._forward_pre_hooks:
            made.set_submodule(name, PackedLinear(module.weight, module.bias))
        elif type(module) is TiedOutput:
            made.set_submodule(name, _PackedOutput())
    return made.eval()
