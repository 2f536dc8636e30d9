"""The features of each layer of a network, taken while it runs.

A layer's features are what the layer after it is given: a rectifier, norm or pooling in between belong to the layer.
A network that names its `blocks` is taken block by block, and where something is done between the last block and the
head (a mean over positions, a norm), its result comes last. Any other network is taken from one module with a weight
matrix to the next, in the order in which they run.

Shapes: B samples, C channels, H W height and width, T tokens, D width.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.nn.blocks import repeated_blocks, weight_layers


@contextmanager
def recorded_layers(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Records layer -> features, in order of depth, of each call of the network inside the block.

    The tensors are those of the forward pass: gradients flow through them. What ran compiled runs as it is written.
    Layers that did not run are absent; the features of a layer that ran several times are those of the last time.

    Yields:
        An empty dict that calls fill: maps [B, C, H, W], tokens [B, T, D] or vectors [B, D].
    """
    found: dict[str, Tensor] = {}
    blocks = repeated_blocks(network)
    handles = [block.register_forward_hook(_keep_output(found, name)) for name, block in blocks.items()]
    ran: list[str] = []
    for name in weight_layers(network):
        if name and not any(name == block or name.startswith(f"{block}.") for block in blocks):
            module = network.get_submodule(name)
            handles.append(module.register_forward_pre_hook(_keep_input(found, ran, name, bool(blocks))))
    try:
        with _as_written(network):
            yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _as_written(network: nn.Module) -> Iterator[None]:
    """Compiled modules run without their compiled code, so that hooks see every call."""
    compiled = {m: m._compiled_call_impl for m in network.modules() if m._compiled_call_impl is not None}
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, code in compiled.items():
            module._compiled_call_impl = code


def _keep_output(found: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        features = _first_tensor(output if isinstance(output, tuple | list) else [output])
        if features is not None:
            found[name] = features

    return hook


def _keep_input(found: dict[str, Tensor], ran: list[str], name: str, has_blocks: bool) -> Callable[..., None]:
    """Features of the layer that ran before `name`; with blocks, what was made of the last one's before the head."""

    def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        given = _first_tensor(arguments)
        before = ran[-1] if ran else None
        ran.append(name)
        if given is None or not given.is_floating_point():
            return
        if has_blocks:
            if found and all(given is not features for features in found.values()):
                found[f"before {name}"] = given
        elif before is not None and before != name:
            found[before] = given

    return hook


def _first_tensor(values: Iterable[Any]) -> Tensor | None:
    return next((value for value in values if isinstance(value, Tensor)), None)


def as_vectors(features: Tensor, most: int) -> Tensor:
    """One vector a sample: tokens are averaged, maps are averaged over windows until they have at most `most` values.

    Shape:
        maps [B, C, H, W], tokens [B, T, D] or anything else [B, ...] -> [B, values]. A map whose channels alone exceed
        `most` keeps one value a channel; vectors are not shortened.
    """
    if features.dim() == 3:
        return features.mean(1)
    if features.dim() != 4:
        return features.flatten(1)
    channels, height, width = features.shape[1:]
    window = 1
    while channels * -(-height // window) * -(-width // window) > most and window < max(height, width):
        window += 1
    if window > 1:
        features = F.avg_pool2d(features, window, ceil_mode=True, count_include_pad=False)
    return features.flatten(1)


def shape_text(features: Tensor) -> str:
    """What one sample has, for a table: `6 maps of 14 x 14`, `50 tokens of 192`, `84 values`."""
    sizes = list(features.shape[1:])
    if len(sizes) == 3:
        return f"{sizes[0]} map{'s' * (sizes[0] != 1)} of {sizes[1]} x {sizes[2]}"
    if len(sizes) == 2:
        return f"{sizes[0]} tokens of {sizes[1]}"
    return f"{torch.Size(sizes).numel()} values"
