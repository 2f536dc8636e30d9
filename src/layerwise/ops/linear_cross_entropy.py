"""A linear layer and cross-entropy over a large vocabulary, without ever holding all logits.

A chunk of tokens at a time: its logits, its losses, and at once its share of the gradients of features and weight; then
the logits are dropped. Since the loss is a sum, the gradient that comes from above is one number, and the backward pass
only multiplies by it. As Liger (Hsu et al. 2024, arXiv:2410.10989, section 3.2) has it for GPUs.

Products are in the features' type (bf16 under autocast) and accumulate in float32 at least; losses, softmax and the
weight's gradient are float32 at least.

Shapes: N tokens, D width, V vocabulary.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100  # a label that is no target, as torch's cross-entropy has it
_MOST = 1 << 25  # logits at a time: 134 MB in float32, and as much for their gradient
_LEAST = 1 << 21  # below, starting the operators costs more than what stays in a core's cache saves


def chunk_size(weight: Float[Tensor, "V D"]) -> int:
    """Logits to hold at a time: about as many as the weight has numbers.

    Every chunk adds its share to the whole weight's gradient: fewer tokens than D a chunk would spend more on that than
    on the logits. More would leave the cache: 2,176 tokens of 256 numbers over 8,000 classes took 333 ms at once, 200
    ms by 256 tokens (one core, bf16).
    """
    return min(max(_LEAST, weight.numel()), _MOST)


def linear_cross_entropy(
    x: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    labels: Int[Tensor, " N"],
    bias: Float[Tensor, " V"] | None = None,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORED,
    chunk: int | None = None,
) -> Float[Tensor, ""]:
    """Sum over targets of `-log softmax(x W^T + b)_label`: `F.cross_entropy(F.linear(x, W, b), ..., reduction="sum")`.

    Tokens without a target cost nothing. Gradients flow into x, weight and bias once; there are no second derivatives.

    Args:
        x: features of every token.
        weight, bias: of the linear layer; a tied embedding will do.
        labels: int64, `ignore_index` where there is no target.
        label_smoothing: share of the probability spread evenly over the vocabulary.
        ignore_index: see `labels`.
        chunk: logits that are held at a time; None means `chunk_size(weight)`.

    Example:
        >>> x, weight = torch.eye(2, 3), torch.zeros(4, 3)
        >>> round(float(linear_cross_entropy(x, weight, torch.tensor([1, -100]))), 4)  # ln 4
        1.3863
    """
    x, labels = _targets_only(x, labels, ignore_index)
    total: Tensor = _Chunked.apply(x, weight, bias, labels, label_smoothing, chunk or chunk_size(weight))  # pyright: ignore[reportAssignmentType]
    return total


@torch.no_grad()
def linear_token_losses(
    x: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    labels: Int[Tensor, " N"],
    bias: Float[Tensor, " V"] | None = None,
    *,
    ignore_index: int = IGNORED,
    chunk: int | None = None,
) -> Float[Tensor, " N"]:
    """The loss of every token, zero where there is no target; for evaluation, without gradients. See
    `linear_cross_entropy`.
    """
    there = torch.nonzero(labels != ignore_index).flatten()
    x, kept = _targets_only(x, labels, ignore_index)
    losses = _run(x, weight, bias, kept, 0.0, chunk or chunk_size(weight))[0]
    return losses.new_zeros(len(labels)).index_copy(0, there, losses)


def _targets_only(x: Tensor, labels: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The tokens that have a target."""
    there = labels != ignore_index
    if bool(there.all()):
        return x, labels
    rows = torch.nonzero(there).flatten()
    return x.index_select(0, rows), labels.index_select(0, rows)


def _run(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    label_smoothing: float,
    chunk: int,
    wanted: tuple[bool, bool, bool] = (False, False, False),
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Losses [N], and the gradients of their sum that are wanted: of x, weight and bias. Products are in autocast's
    type where it is on.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    with torch.autocast(kind, enabled=False):
        return _chunks(x, weight, bias, labels, label_smoothing, chunk, wanted)


def _chunks(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    label_smoothing: float,
    chunk: int,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """As `_run`, everything in one type; gradients of weight and bias are float32 at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    vocabulary = len(weight)
    # Chunks of like sizes: every one costs a pass over the weight's gradient, also one of a few tokens that are left.
    most = min(max(1, chunk // vocabulary), max(1, len(x)))
    size = -(-len(x) // max(1, -(-len(x) // most))) or 1
    losses = torch.empty(len(x), dtype=wide, device=x.device)
    x_grad = torch.empty_like(x) if wanted[0] else None
    weight_grad = torch.zeros_like(weight, dtype=wide) if wanted[1] else None
    bias_grad = torch.zeros(vocabulary, dtype=wide, device=x.device) if wanted[2] else None
    # Made once and written over by every chunk: fresh memory of this size costs as much as the arithmetic on it.
    narrow = torch.empty(size, vocabulary, dtype=x.dtype, device=x.device)
    wider = torch.empty(size, vocabulary, dtype=wide, device=x.device) if wide != x.dtype else narrow
    log_p = torch.empty_like(wider)
    share = torch.empty_like(weight) if wanted[1] and wide != x.dtype else None
    for first in range(0, len(x), size):
        part, target = x[first : first + size], labels[first : first + size, None]
        rows = slice(0, len(part))
        logits = torch.mm(part, weight.T, out=narrow[rows])
        if bias is not None:
            logits += bias
        if wider is not narrow:
            logits = wider[rows].copy_(logits)
        log_p_rows = torch.log_softmax(logits, 1, out=log_p[rows])
        own = log_p_rows.gather(1, target).squeeze(1)
        losses[first : first + size] = -own
        if label_smoothing:
            losses[first : first + size] += label_smoothing * (own - log_p_rows.mean(dim=1))
        if not any(wanted):
            continue
        slope = log_p_rows.exp_()  # of the loss by the logits: softmax minus what should have been
        slope.scatter_add_(1, target, slope.new_full(target.shape, label_smoothing - 1))
        if label_smoothing:
            slope -= label_smoothing / vocabulary
        if bias_grad is not None:
            bias_grad += slope.sum(0)
        if wider is not narrow:
            slope = narrow[rows].copy_(slope)
        if x_grad is not None:
            torch.mm(slope, weight, out=x_grad[first : first + size])
        if share is not None and weight_grad is not None:
            weight_grad += torch.mm(slope.T, part, out=share)
        elif weight_grad is not None:
            weight_grad.addmm_(slope.T, part)
    return losses, x_grad, weight_grad, bias_grad


class _Chunked(torch.autograd.Function):
    """The sum of the losses; gradients are made in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        label_smoothing: float,
        chunk: int,
    ) -> Tensor:
        losses, *grads = _run(x, weight, bias, labels, label_smoothing, chunk, ctx.needs_input_grad[:3])
        ctx.save_for_backward(*grads)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides its names
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        factor: Tensor = grad_outputs[0]
        grads = [None if grad is None else grad * factor for grad in ctx.saved_tensors]
        return (*grads, None, None, None)
