"""Reconstruction: an autoencoder learns to give back what it was shown.

Paper: G. E. Hinton, R. R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006,
https://www.cs.toronto.edu/~hinton/absps/science.pdf

Shapes: B batch, C H W pictures.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, cast, runtime_checkable

import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.nn.protocols import Autoencoder, require
from layerwise.objectives.base import Batch, Context, Objective, Term


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Options of reconstruction.

    Args:
        loss: "bernoulli" takes grey levels as probabilities and has the cross-entropy
            `-x log r - (1 - x) log(1 - r)`, which the paper minimises; "squared" has `(x - r)^2`.
        unroll: before training, set the decoder's weights to the encoder's transposed: for a stage that follows greedy
            pre-training.
    """

    loss: Literal["bernoulli", "squared"] = "bernoulli"
    unroll: bool = False


@runtime_checkable
class Unrolls(Protocol):
    """Has an encoder whose weights, transposed, can start its decoder."""

    def unroll(self) -> None:
        """Set the decoder's weights to the encoder's transposed."""
        ...


class Reconstruction(Objective):
    """Sum over pixels, mean over pictures, of the loss between pictures x and reconstructions r = sigmoid(logits).

    `squared_error` is shown with either loss.

    Shape:
        images: float [B, C, H, W] in [0, 1]; the network is an `Autoencoder`.
    """

    def __init__(self, config: ReconstructionConfig) -> None:
        super().__init__()
        self.config = config

    def setup(self, network: nn.Module) -> None:
        require(network, Autoencoder, "objective=reconstruction")
        if self.config.unroll:
            require(network, Unrolls, "objective.unroll=true").unroll()

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        names = ("cross_entropy", "squared_error") if self.config.loss == "bernoulli" else ("squared_error",)
        return dict.fromkeys(names, float(len(batch["sample_ids"])))

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        model, images = cast(Autoencoder, network), batch["images"]
        logits = _wide(model.decode(model.encode(images)))
        count, target = float(len(images)), images.to(logits.dtype)
        if self.config.loss == "squared":
            return {"squared_error": Term(F.mse_loss(logits.sigmoid(), target, reduction="sum"), count)}
        error = F.mse_loss(logits.detach().sigmoid(), target, reduction="sum")
        return {
            "cross_entropy": Term(F.binary_cross_entropy_with_logits(logits, target, reduction="sum"), count),
            "squared_error": Term(error, count, minimised=False),
        }


def _wide(x: Tensor) -> Tensor:
    """Float32 on purpose, or float64: losses are sums over many pixels."""
    return x if x.dtype.itemsize == 8 else x.float()


OBJECTIVES = {"reconstruction": ReconstructionConfig()}
