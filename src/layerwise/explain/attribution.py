"""Which parts of an input a network's score rests on: saliency, integrated gradients, occlusion, Grad-CAM, attention
roll-out.

Every method is a function of a model, inputs and targets. The model is any callable from inputs [B, ...] to scores
[B, K] (logits: a softmax would mix in the other classes); target [B] says which score of each sample is meant.

Papers: K. Simonyan, A. Vedaldi, A. Zisserman, "Deep inside convolutional networks", 2013,
https://arxiv.org/abs/1312.6034; D. Smilkov et al., "SmoothGrad", 2017, https://arxiv.org/abs/1706.03825;
M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", 2017, https://arxiv.org/abs/1703.01365;
M. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks", 2013, https://arxiv.org/abs/1311.2901;
R. Selvaraju et al., "Grad-CAM", 2016, https://arxiv.org/abs/1610.02391; S. Abnar, W. Zuidema, "Quantifying attention
flow in transformers", 2020, https://arxiv.org/abs/2005.00928

Differs from the papers: integrated gradients take the middle of each step, which is exact for linear models and nearer
to the integral than the right end; the maps of Grad-CAM and roll-out are not resized here.

Shapes: B samples, C channels, H W height and width, K scores.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.explain.layers import recorded_layers
from layerwise.nn.protocols import AttentionMaps

Model = Callable[[Tensor], Tensor]

_ROWS = 64  # inputs a forward pass


def target_scores(model: Model, inputs: Tensor, target: Tensor) -> Tensor:
    """`model(inputs)[b, target[b]]` [B]."""
    return model(inputs).gather(1, target[:, None])[:, 0]


def input_gradient(model: Model, inputs: Tensor, target: Tensor) -> Tensor:
    """Gradient of each sample's target score by its input, in the input's shape."""
    with torch.enable_grad():
        leaf = inputs.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(target_scores(model, leaf, target).sum(), leaf)
    return gradient


def saliency(
    model: Model,
    inputs: Tensor,
    target: Tensor,
    *,
    samples: int = 1,
    noise: float = 0.15,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Gradient of the score by the input; with `samples` > 1 its mean over noisy copies of the input (SmoothGrad).

    Args:
        model: inputs [B, ...] -> scores [B, K].
        inputs: float [B, ...].
        target: int64 [B].
        samples: noisy copies; 1 takes the input as it is.
        noise: deviation of the noise as a share of each sample's range.
        generator: draws the noise.

    Returns:
        [B, ...]. Its size says how much a small change of that value matters, its sign which way.
    """
    if samples == 1:
        return input_gradient(model, inputs, target)
    flat = inputs.flatten(1)
    deviation = noise * (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (inputs.dim() - 1))
    total = torch.zeros_like(inputs)
    for _ in range(samples):
        drawn = torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype).to(inputs.device)
        total += input_gradient(model, inputs + deviation * drawn, target)
    return total / samples


def integrated_gradients(
    model: Model, inputs: Tensor, target: Tensor, *, baseline: Tensor | None = None, steps: int = 64
) -> Tensor:
    """`(x - b) * integral over a in [0, 1] of the gradient at b + a (x - b)` (equation 1 of the paper).

    The values of a sample add up to score(x) - score(b), but for the error of the sum over `steps` (completeness,
    proposition 1).

    Args:
        model: inputs [B, ...] -> scores [B, K].
        inputs: float [B, ...].
        target: int64 [B].
        baseline: what stands for "nothing there", in a shape that expands to the inputs'; None takes zeros.
        steps: points at which the gradient is taken.

    Returns:
        [B, ...]: how much of the score each value gives.
    """
    start = torch.zeros_like(inputs) if baseline is None else baseline.expand_as(inputs)
    change = inputs - start
    total = torch.zeros_like(inputs)
    for step in range(steps):
        total += input_gradient(model, start + (step + 0.5) / steps * change, target)
    return change * total / steps


def completeness_gap(
    model: Model, inputs: Tensor, target: Tensor, attribution: Tensor, *, baseline: Tensor | None = None
) -> Tensor:
    """`sum of attributions - (score(x) - score(b))` [B]: how far integrated gradients are from adding up."""
    start = torch.zeros_like(inputs) if baseline is None else baseline.expand_as(inputs)
    with torch.no_grad():
        difference = target_scores(model, inputs, target) - target_scores(model, start, target)
    return attribution.flatten(1).sum(1) - difference


def occlusion(
    model: Model,
    inputs: Tensor,
    target: Tensor,
    *,
    window: int,
    stride: int,
    baseline: Tensor | None = None,
) -> Tensor:
    """How much the score falls when a window of the picture is covered, averaged over the windows that cover a pixel.

    Args:
        model: inputs [B, C, H, W] -> scores [B, K].
        inputs: float [B, C, H, W].
        target: int64 [B].
        window: height and width of the covered square, cut off at the picture's edges.
        stride: pixels from one window to the next, at most `window` (every pixel is covered by some window).
        baseline: what covers, in a shape that expands to the inputs'; None takes zeros.

    Returns:
        [B, H, W], positive where covering costs score.

    Raises:
        ConfigError: a stride that leaves pixels uncovered.
    """
    if not 1 <= stride <= window:
        raise ConfigError(f"stride={stride}: it must be at least 1 and at most the window, {window}.")
    cover = torch.zeros_like(inputs) if baseline is None else baseline.expand_as(inputs)
    height, width = inputs.shape[-2:]
    places = [(top, left) for top in _starts(height, window, stride) for left in _starts(width, window, stride)]
    masks = torch.zeros(len(places), height, width, dtype=torch.bool, device=inputs.device)
    for mask, (top, left) in zip(masks, places, strict=True):
        mask[max(0, top) : top + window, max(0, left) : left + window] = True
    maps = []
    with torch.no_grad():
        whole = target_scores(model, inputs, target)
        for picture, covered, wanted, score in zip(inputs, cover, target, whole, strict=True):
            hidden = torch.cat(
                [
                    target_scores(model, torch.where(part[:, None], covered, picture), wanted.expand(len(part)))
                    for part in masks.split(_ROWS)
                ]
            )
            falls = (score - hidden)[:, None, None] * masks
            maps.append(falls.sum(0) / masks.sum(0))
    return torch.stack(maps)


def _starts(size: int, window: int, stride: int) -> range:
    """First pixels of the windows, centred: the first and the last may reach over the edge alike."""
    count = max(1, -(-(size - window) // stride) + 1)
    over = (count - 1) * stride + window - size
    return range(-(over // 2), -(over // 2) + count * stride, stride)


def grad_cam(network: nn.Module, model: Model, inputs: Tensor, target: Tensor, *, layer: str | None = None) -> Tensor:
    """`relu(sum_c w_c A_c)`, where w_c is the mean over positions of the score's gradient by map A_c (equations 1, 2).

    Args:
        network: whose layers `model` runs.
        model: inputs [B, C, H, W] -> scores [B, K].
        inputs: float [B, C, H, W].
        target: int64 [B].
        layer: name of the layer; None takes the last one that has maps.

    Returns:
        [B, h, w] of that layer's maps, zero or positive.

    Raises:
        UnsupportedError: the network has no layer with maps.
        ConfigError: it has none of that name.
    """
    with recorded_layers(network) as found, torch.enable_grad():
        score = target_scores(model, inputs.detach().requires_grad_(), target).sum()
        maps = {name: x for name, x in found.items() if x.dim() == 4 and min(x.shape[2:]) > 1}
        if not maps:
            raise UnsupportedError(
                f"grad_cam needs a layer with maps of a picture; {type(network).__name__} has none. Take "
                "integrated_gradients."
            )
        if layer is not None and layer not in maps:
            raise ConfigError(f"layer={layer}: the layers with maps are {', '.join(maps)}.")
        chosen = maps[layer] if layer is not None else list(maps.values())[-1]
        (gradient,) = torch.autograd.grad(score, chosen)
    weights = gradient.mean((2, 3), keepdim=True)
    return F.relu((weights * chosen.detach()).sum(1))


def roll_out(maps: Tensor) -> Tensor:
    """`R_l = (W_l + I) / 2 R_{l-1}` with `R_0 = I`, where W_l is block l's mean over heads (section 3, equation 1): how
    much of each input token is in each token after the last block, if weights and shortcuts were all there is.

    Args:
        maps: attention weights [L, B, A, T, T] whose rows sum to one.

    Returns:
        [B, T, T], float64; rows sum to one.
    """
    same = torch.eye(maps.shape[-1], dtype=torch.float64, device=maps.device)
    rolled = same.expand(maps.shape[1], -1, -1)
    for weights in maps.double().mean(2):
        rolled = (weights + same) / 2 @ rolled
    return rolled


def attention_rollout(network: nn.Module, inputs: Tensor) -> Tensor:
    """What the class token holds of each patch by `roll_out`. It is the same for every class: no score is asked.

    Args:
        network: with `attention_maps` (a ViT).
        inputs: float [B, C, H, W].

    Returns:
        [B, h, w] of the grid of patches, positive; what is missing to a sum of one is the class token's own share.

    Raises:
        UnsupportedError: the network has no attention maps.
    """
    if not isinstance(network, AttentionMaps):
        raise UnsupportedError(
            f"attention_rollout needs a model with attention_maps, a ViT; {type(network).__name__} has none. Take "
            "integrated_gradients."
        )
    with torch.no_grad():
        shares = roll_out(network.attention_maps(inputs))[:, 0, 1:]
    rows = round((shares.shape[1] * inputs.shape[2] / inputs.shape[3]) ** 0.5)  # patches are square
    return shares.unflatten(1, (rows, -1)).to(inputs.dtype)


@contextmanager
def without_parameter_gradients(network: nn.Module) -> Iterator[None]:
    """Parameters take no gradients inside the block: half of the backward pass is saved."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
