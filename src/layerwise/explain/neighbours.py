"""Nearest neighbours in feature space: which examples a network holds for alike.

Shapes: Q queries, N examples, D features, K neighbours.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest(queries: Tensor, examples: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The examples whose features point most nearly the same way.

    Args:
        queries: [Q, D].
        examples: [N, D].
        count: K, neighbours of each; all N where there are fewer.

    Returns:
        Places [Q, K] among the examples, nearest first and of equals the first, and their cosines, float64 [Q, K]; the
        cosine with a vector of zeros is 0.
    """
    cosines = F.normalize(queries.double(), dim=1) @ F.normalize(examples.double(), dim=1).T
    places = torch.sort(cosines, dim=1, descending=True, stable=True).indices[:, :count]
    return places, cosines.gather(1, places)
