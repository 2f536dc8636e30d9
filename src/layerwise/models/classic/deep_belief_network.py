"""Deep belief network: restricted Boltzmann machines stacked, trained one after the other, then a classifier on top.

Paper: G. E. Hinton, S. Osindero, Y.-W. Teh, "A fast learning algorithm for deep belief nets", Neural Computation 18(7),
2006, https://www.cs.toronto.edu/~hinton/absps/ncfast.pdf; fine-tuned as a feed-forward network as in G. E. Hinton, R.
R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006,
https://www.cs.toronto.edu/~hinton/absps/science.pdf.

Differs from the paper: a machine learns on the mean activations of the one below, not on samples; fine-tuning is
backpropagation through the recognition weights, not the up-down algorithm; labels are not visible units of the top
machine.

Shapes: B batch, V visible units, D features, K classes, C H W pictures.
"""

import itertools
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import Fraction, PictureSize, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.models.classic.rbm import BeliefLayer, RBMLayer, gibbs_chain
from layerwise.ops.random import Draws

CARD = Card(
    title="Deep belief network",
    authors="Geoffrey E. Hinton, Simon Osindero, Yee-Whye Teh",
    paper="A fast learning algorithm for deep belief nets",
    year=2006,
    link="https://www.cs.toronto.edu/~hinton/absps/ncfast.pdf",
    inputs={"images": "float [B, in_channels, H, W] in [0, 1]"},
    outputs={"logits": "float [B, num_classes]"},
    differences=(
        "A machine learns on the mean activations of the one below, not on samples.",
        "Fine-tuning is backpropagation through the recognition weights, which leaves the visible biases out.",
    ),
    capabilities=("features", "generates"),
)


@dataclass(frozen=True, kw_only=True)
class DeepBeliefNetworkConfig:
    """Sizes of the stack.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures; None takes the data's.
        hidden_sizes: hidden units of each machine, from the bottom up.
        dropout: share of hidden units left out when the classifier is trained (Srivastava et al. 2014).
        input_dropout: share of pixels left out when the classifier is trained.
        gibbs_steps: length of the top machine's chain that pictures are drawn with.
        start_share: share of the top machine's visible units that are on where that chain starts; near the share in the
            data, chains come to the data sooner.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = None
    hidden_sizes: tuple[PositiveInt, ...] = (500, 500, 2000)
    dropout: Probability = 0.0
    input_dropout: Probability = 0.0
    gibbs_steps: PositiveInt = 1000
    start_share: Fraction = 0.5

    def __post_init__(self) -> None:
        if not self.hidden_sizes:
            raise ConfigError("hidden_sizes=(): at least one is needed.")


class DeepBeliefNetwork(nn.Module):
    """`x_0 = pixels, x_{l+1} = sigmoid(W_l x_l + c_l)`, a linear classifier on the last one.

    Shape:
        images [B, C, H, W] in [0, 1] -> logits [B, num_classes]; features are [B, hidden_sizes[-1]].

    Example:
        >>> net = DeepBeliefNetwork(PRESETS["deep_belief_network-tiny"])
        >>> net(torch.zeros(2, 1, 6, 6)).shape
        torch.Size([2, 5])
    """

    def __init__(self, config: DeepBeliefNetworkConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None or config.image_size is None:
            raise ConfigError(
                "num_classes, in_channels and image_size are needed; they come from the data or are given."
            )
        self.config, self.feature_size = config, config.hidden_sizes[-1]
        sizes = (config.in_channels * config.image_size[0] * config.image_size[1], *config.hidden_sizes)
        self.blocks = nn.ModuleList(BeliefLayer(visible_size=v, hidden_size=h) for v, h in itertools.pairwise(sizes))
        self.classifier = nn.Linear(sizes[-1], config.num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Machines as they say; a classifier of N(0, 0.01) with bias 0."""
        for index in range(len(self.blocks)):
            self.energy_layer(index).reset_parameters()
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def energy_layer(self, index: int) -> RBMLayer:
        """The machine `index`, counted from the bottom.

        Raises:
            ConfigError: there is no such machine.
        """
        if index >= len(self.blocks):
            raise ConfigError(f"layer={index}: the network has the layers 0 to {len(self.blocks) - 1}.")
        return cast(RBMLayer, self.blocks[index])

    def visible_units(self, images: Float[Tensor, "B C H W"], index: int = 0) -> Float[Tensor, "B V"]:
        """What machine `index` sees: the pictures, carried up through the machines below it."""
        x = images.flatten(1)
        for below in range(index):
            x = self.energy_layer(below)(x)
        return x

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Activations of the top machine's hidden units; in training mode some units are left out on the way."""
        x = F.dropout(images.flatten(1), self.config.input_dropout, self.training)
        for index in range(len(self.blocks)):
            x = self.energy_layer(index)(x)
            x = F.dropout(x, self.config.dropout, self.training)
        return x

    def sample_pictures(self, sample_ids: Int[Tensor, " B"], draws: Draws) -> Float[Tensor, "B C H W"]:
        """Pictures in [0, 1]: a chain of `gibbs_steps` in the top machine, then probabilities down to the pixels.

        They are the data's only as long as every machine is as it was trained: fine-tuning moves the weights away.
        """
        top, steps, share = self.energy_layer(len(self.blocks) - 1), self.config.gibbs_steps, self.config.start_share
        x = gibbs_chain(top, sample_ids, draws, steps=steps, start_share=share)
        for index in reversed(range(len(self.blocks) - 1)):
            x = self.energy_layer(index).visible_probabilities(x)
        return x.view(len(x), -1, *(self.config.image_size or ()))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.classifier(self.forward_features(images))


PRESETS = {
    "deep_belief_network": DeepBeliefNetworkConfig(),
    "deep_belief_network-tiny": DeepBeliefNetworkConfig(
        num_classes=5, in_channels=1, image_size=(6, 6), hidden_sizes=(8, 6), gibbs_steps=5
    ),
}


def example_batch(config: DeepBeliefNetworkConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures in [0, 1]."""
    return {
        "images": torch.rand(batch_size, config.in_channels or 1, *(config.image_size or (28, 28)), generator=generator)
    }
