"""A network for inference alone: batch norms folded into the convolutions before them, activations and residual sums
computed where the convolution writes its result, weights laid out once as the processor's kernels read them.

In evaluation a batch norm is a fixed affine map of each channel, so `norm(conv(x)) = conv'(x)` with

    weight' = weight * gamma / sqrt(var + eps),   bias' = beta + (bias - mean) * gamma / sqrt(var + eps)

(Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.1). A convolution is bound by memory on its small results: a sum
and an activation of their own read and write each map once more, and oneDNN adds them to the convolution that makes it.

The network is traced, not changed: what comes back is another module with the same forward, at any size of picture. It
has no forward_features or other stages.

Shapes: B batch, I O channels, H W height and width.
"""

import operator
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval

from layerwise.core.errors import UnsupportedError
from layerwise.infer.freeze_encoder import freeze_encoder
from layerwise.nn.picture_size import SizeDependent
from layerwise.nn.text_encoder import TextEncoder

Activation = Literal["none", "relu", "swish"]

_APPLIED: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "relu": F.relu, "swish": F.silu}
_FUNCTIONS: dict[Any, Activation] = {F.relu: "relu", torch.relu: "relu", F.silu: "swish", "relu": "relu"}
_MODULES: dict[type, Activation] = {nn.ReLU: "relu", nn.SiLU: "swish"}
_SUMS = operator.add, operator.iadd, torch.add


class FusedConv2d(nn.Module):
    """`activation(conv(x) + other)`, the sum and the activation inside the convolution's kernel where there is one.

    Args:
        conv: weights and geometry; zero padding.
        dtype: that weights and results have; float32 or bfloat16.

    Shape:
        x [B, I, H, W], other [B, O, H2, W2] -> [B, O, H2, W2].
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        self.activation: Activation = "none"
        self.overwrites = False  # `other` is read by nobody after this: the result takes its place in memory
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups
        self.kernel_size, self.out_channels, self.dtype = conv.kernel_size, conv.out_channels, dtype
        self.weight = conv.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        self.fuses = self.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        self._packed: dict[tuple[int, ...], Tensor] = {}  # the weights as the kernel for inputs of a shape reads them

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        geometry = self.padding, self.stride, self.dilation, self.groups
        x = x.to(self.dtype)
        if not self.fuses:
            y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
            return _APPLIED[self.activation](y if other is None else y + other)
        x, weight = x.contiguous(memory_format=torch.channels_last), self._packed_for(x.shape)
        convolve = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return convolve(x, weight, self.bias, *geometry, self.activation, [], "")
        if other.shape != self._result_shape(x):  # a sum that broadcasts
            return _APPLIED[self.activation](convolve(x, weight, self.bias, *geometry, "none", [], "") + other)
        after = "add", 1.0, None if self.activation == "none" else self.activation, [], ""
        if self.overwrites:
            add = torch.ops.mkldnn._convolution_pointwise_.binary
            return add(other, x, weight, self.bias, *geometry, *after)
        other = other.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return convolve.binary(x, other, weight, self.bias, *geometry, *after)

    def _packed_for(self, shape: torch.Size) -> Tensor:
        """The kernel, and with it the layout, depends on the input's shape: with weights packed for no shape in
        particular ResNet-50 took twice as long for a single picture as unfrozen.
        """
        key = tuple(shape)
        if key not in self._packed:
            if len(self._packed) == 2:  # whole batches and the last one
                del self._packed[next(iter(self._packed))]
            geometry = self.padding, self.stride, self.dilation, self.groups
            self._packed[key] = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *geometry, list(key))
        return self._packed[key]

    def _result_shape(self, x: Tensor) -> tuple[int, ...]:
        sizes = zip(x.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        return (x.shape[0], self.out_channels, *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes))

    def extra_repr(self) -> str:
        return f"activation={self.activation}, stride={self.stride}, padding={self.padding}, dtype={self.dtype}"


class InBF16(nn.Module):
    """A frozen network whose other layers compute in bfloat16 as well, by autocast; results are float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.network(images).float()


class _Tracer(fx.Tracer):
    """Keeps whole, beside torch's modules, those that look at sizes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SizeDependent) or super().is_leaf_module(m, module_qualified_name)


def gains_by_freezing(network: nn.Module) -> bool:
    """Whether there is anything to freeze: a text encoder, or convolutions; one alone cuts a transformer's patches."""
    return isinstance(network, TextEncoder) or sum(isinstance(each, nn.Conv2d) for each in network.modules()) > 1


def freeze(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The same forward for inference alone, equal to the network's up to rounding. The network stays as it is; later
    changes of its weights are not seen.

    Args:
        network: in eval mode, its forward of one tensor and without branches that depend on values or sizes of it.
        dtype: of convolutions and of the maps between them; bfloat16 where the machine multiplies it natively.

    Raises:
        UnsupportedError: the network is in training mode, has nothing to freeze, or its forward cannot be traced.
    """
    name = type(network).__name__
    if network.training:
        raise UnsupportedError(f"{name} is in training mode; it is frozen in eval mode: network.eval().")
    if isinstance(network, TextEncoder):
        return freeze_encoder(network, dtype)
    if not gains_by_freezing(network):
        raise UnsupportedError(f"{name} has fewer than two convolutions, and no text encoder: nothing to freeze.")
    try:
        graph = _Tracer().trace(network)
    except (TraceError, TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise UnsupportedError(
            f"{name} cannot be frozen for inference, its forward depends on what it is given ({error})."
        ) from error
    made = fx.GraphModule(network, graph, f"Frozen{name}")
    _fuse(made, dtype)
    graph.lint()
    made.delete_all_unused_submodules()
    made.recompile()
    return (made if dtype == torch.float32 else InBF16(made)).eval()


def _fuse(made: fx.GraphModule, dtype: torch.dtype) -> None:
    """Put a `FusedConv2d` for every convolution and for the norm, the sum and the activation that follow it."""
    modules: dict[str, nn.Module | None] = dict(made.named_modules())
    for index, node in enumerate(list(made.graph.nodes)):
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            continue
        last, norm = node, _only_reader(node)
        found = modules.get(str(norm.target)) if norm is not None and norm.op == "call_module" else None
        if norm is not None and type(found) is nn.BatchNorm2d and found.track_running_stats:
            conv, last = fuse_conv_bn_eval(conv, found), norm
        fused = FusedConv2d(conv, dtype)
        last, other = _sum_after(last)
        last, fused.activation = _activation_after(last, modules)
        made.add_submodule(f"fused{index}", fused)
        with made.graph.inserting_before(last):
            new = made.graph.call_module(f"fused{index}", (node.args[0], *([] if other is None else [other])))
        last.replace_all_uses_with(new)
        made.graph.eliminate_dead_code()
    _overwrite(made)


def _overwrite(made: fx.GraphModule) -> None:
    """Let sums take their other summand's memory where nobody else has it or reads it later: it and whatever reads it
    are results of fused convolutions, none of which are views.
    """

    def fused(node: object) -> bool:
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return False
        return isinstance(made.get_submodule(str(node.target)), FusedConv2d)

    place = {node: index for index, node in enumerate(made.graph.nodes)}
    for node in made.graph.nodes:
        if not fused(node) or len(node.args) < 2:
            continue
        x, other = node.args
        last = max(other.users, key=place.__getitem__)
        if fused(other) and x is not other and last is node and all(map(fused, other.users)):
            layer = made.get_submodule(str(node.target))
            assert isinstance(layer, FusedConv2d)
            layer.overwrites = True


def _only_reader(node: fx.Node) -> fx.Node | None:
    """The node that is the only one to read a node's result."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def _sum_after(node: fx.Node) -> tuple[fx.Node, fx.Node | None]:
    """The sum that alone reads a node's result and what else is added there; the node itself without one."""
    reader = _only_reader(node)
    if reader is None or reader.op != "call_function" or reader.target not in _SUMS or reader.kwargs:
        return node, None
    first, second = reader.args
    other = second if first is node else first
    return (reader, other) if isinstance(other, fx.Node) and other is not node else (node, None)


def _activation_after(node: fx.Node, modules: dict[str, nn.Module | None]) -> tuple[fx.Node, Activation]:
    """The activation that alone reads a node's result, and its name; the node itself without one."""
    reader = _only_reader(node)
    if reader is None:
        return node, "none"
    if reader.op == "call_module":
        found = _MODULES.get(type(modules.get(str(reader.target))))
    else:
        found = _FUNCTIONS.get(reader.target)
    return (reader, found) if found is not None else (node, "none")
