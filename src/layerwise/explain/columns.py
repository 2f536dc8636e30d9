"""Integrated gradients over the columns of a table: numbers by their values, categories by their learned vectors.

Papers: see `attribution`. A category is no number to interpolate, so the path runs between vectors: from the mean
vector of the column's values to the vector of the row's value.

Shapes: B rows, F numbers, G category columns, D width of a vector.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError


def integrated_column_gradients(
    network: nn.Module,
    score: Callable[[Tensor, Tensor], Tensor],
    numeric: Tensor,
    categories: Tensor,
    *,
    baseline: Tensor,
    steps: int = 64,
) -> tuple[Tensor, Tensor, Tensor]:
    """How much of the score each column gives, from the average row to each row.

    Args:
        network: looks its category columns up in order, one `nn.Embedding` each.
        score: numbers [B, F] and categories [B, G] to the score of each row [B], through `network`.
        numeric: [B, F].
        categories: int64 [B, G]; the path begins at the mean vector of the column's values.
        baseline: numbers [1, F] at which the path begins, those of an average row.
        steps: points at which the gradient is taken.

    Returns:
        Contributions of the numbers [B, F] and of the categories [B, G], and the score where the path begins [B]. The
        contributions of a row add up to its score less that, but for the error of the sum over `steps`.

    Raises:
        UnsupportedError: the network looks up another number of columns.
    """
    change = numeric - baseline
    totals = torch.zeros_like(numeric), torch.zeros(categories.shape, dtype=numeric.dtype, device=numeric.device)
    for step in range(steps):
        share = (step + 0.5) / steps
        with torch.enable_grad(), _vectors_towards(network, share) as vectors:
            leaf = (baseline + share * change).requires_grad_()
            total = score(leaf, categories).sum()
            if len(vectors) != categories.shape[1]:
                raise UnsupportedError(
                    f"explain needs a model that looks each of the {categories.shape[1]} category columns up by an "
                    f"nn.Embedding; {type(network).__name__} looks up {len(vectors)}."
                )
            gradients = torch.autograd.grad(total, [leaf, *(at for at, _ in vectors)], allow_unused=True)
        if gradients[0] is not None:
            totals[0].add_(gradients[0] * change / steps)
        for column, ((_, step_of_vector), gradient) in enumerate(zip(vectors, gradients[1:], strict=True)):
            if gradient is not None:
                totals[1][:, column] += (gradient * step_of_vector).sum(1) / steps
    with torch.no_grad(), _vectors_towards(network, 0.0):
        start = score(baseline.expand_as(numeric), categories)
    return *totals, start


@contextmanager
def _vectors_towards(network: nn.Module, share: float) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Embeddings give `mean + share * (vector - mean)`. Yields (that, as a leaf; vector - mean) in order of calls."""
    made: list[tuple[Tensor, Tensor]] = []

    def hook(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(module, nn.Embedding)
        change = output.detach() - module.weight.detach().mean(0)
        at = (output.detach() - (1 - share) * change).requires_grad_(torch.is_grad_enabled())
        made.append((at, change))
        return at

    handles = [m.register_forward_hook(hook) for m in network.modules() if isinstance(m, nn.Embedding)]
    try:
        yield made
    finally:
        for handle in handles:
            handle.remove()
