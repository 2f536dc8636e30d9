"""Deep autoencoder: logistic layers narrow down to a small linear code, and mirrored ones bring the picture back.

Paper: G. E. Hinton, R. R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006,
https://www.cs.toronto.edu/~hinton/absps/science.pdf

Differs from the paper: weights start from Glorot and Bengio's distribution (2010), with which optimisers of today need
no pre-training; the paper's greedy pre-training is there (`energy_layer`, `unroll`; recipe `autoencoder_mnist_paper`).

Shapes: B batch, C H W pictures, V = C H W pixels, D code.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PictureSize, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.models.classic.rbm import LinearHiddenMachine, SharedMachine

CARD = Card(
    title="Deep autoencoder",
    authors="Geoffrey E. Hinton, Ruslan R. Salakhutdinov",
    paper="Reducing the dimensionality of data with neural networks",
    year=2006,
    link="https://www.cs.toronto.edu/~hinton/absps/science.pdf",
    inputs={"images": "float [B, in_channels, H, W] in [0, 1]"},
    outputs={
        "reconstruction": "float [B, in_channels, H, W] in [0, 1]",
        "code": "float [B, code_size]",
    },
    differences=("Weights start from Glorot's distribution; greedy pre-training is a recipe's choice.",),
    capabilities=("differentiable", "features"),
)


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes of the encoder; the decoder mirrors it.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures; None takes the data's.
        hidden_sizes: units of each logistic layer between pixels and code.
        code_size: units of the linear code.
    """

    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = None
    hidden_sizes: tuple[PositiveInt, ...] = (1000, 500, 250)
    code_size: PositiveInt = 30


class AutoencoderOutput(NamedTuple):
    """Reconstructions [B, C, H, W] in [0, 1] and codes [B, D]."""

    reconstruction: Tensor
    code: Tensor


class Autoencoder(nn.Module):
    """`x_0 = pixels, x_l = sigmoid(W_l x_{l-1} + c_l)`, a linear code `z = W x + c`, and the same back to the pixels.

    Shape:
        images [B, C, H, W] in [0, 1] -> reconstruction [B, C, H, W], code [B, code_size].

    Example:
        >>> net = Autoencoder(AutoencoderConfig(in_channels=1, image_size=(28, 28)))
        >>> sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 1, 28, 28)).code.shape
        (2837314, torch.Size([2, 30]))
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        if config.in_channels is None or config.image_size is None:
            raise ConfigError("in_channels and image_size are needed; they come from the data or are given.")
        self.config, self.code_size = config, config.code_size
        self.picture_shape = (config.in_channels, *config.image_size)
        sizes = (config.in_channels * config.image_size[0] * config.image_size[1], *config.hidden_sizes)
        sizes = (*sizes, config.code_size)
        self.encoder = nn.ModuleList(nn.Linear(wide, narrow) for wide, narrow in itertools.pairwise(sizes))
        self.decoder = nn.ModuleList(nn.Linear(narrow, wide) for wide, narrow in itertools.pairwise(sizes))[::-1]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights by Glorot's normal distribution, biases 0."""
        for layer in self._layers():
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _layers(self) -> list[nn.Linear]:
        return [cast(nn.Linear, layer) for layer in (*self.encoder, *self.decoder)]

    def encode(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Codes."""
        return self.encoder[-1](self.visible_units(images, len(self.encoder) - 1))

    def decode(self, code: Float[Tensor, "B D"]) -> Float[Tensor, "B C H W"]:
        """Logits of the pixels."""
        x = code
        for layer in self.decoder[:-1]:
            x = torch.sigmoid(layer(x))
        return self.decoder[-1](x).unflatten(1, self.picture_shape)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Codes."""
        return self.encode(images)

    def forward(self, images: Float[Tensor, "B C H W"]) -> AutoencoderOutput:
        """Reconstructions and codes."""
        code = self.encode(images)
        return AutoencoderOutput(torch.sigmoid(self.decode(code).float()), code.float())

    # ------------------------------------------------------------------------------- as a stack of Boltzmann machines

    def energy_layer(self, index: int) -> SharedMachine:
        """The machine between the layers `index` and `index + 1` of the encoder, counted from the pixels: weights and
        hidden biases are the encoder's, visible biases the decoder's. The topmost one has linear hidden units.

        Raises:
            ConfigError: there is no such machine.
        """
        if index >= len(self.encoder):
            raise ConfigError(f"layer={index}: the network has the layers 0 to {len(self.encoder) - 1}.")
        up, down = cast(nn.Linear, self.encoder[index]), cast(nn.Linear, self.decoder[-1 - index])
        kind = LinearHiddenMachine if index == len(self.encoder) - 1 else SharedMachine
        return kind(weight=up.weight, visible_bias=down.bias, hidden_bias=up.bias)

    def visible_units(self, images: Float[Tensor, "B C H W"], index: int = 0) -> Float[Tensor, "B V"]:
        """What machine `index` sees: the pictures, carried up through the layers below it."""
        x = images.flatten(1)
        for layer in self.encoder[:index]:
            x = torch.sigmoid(layer(x))
        return x

    @torch.no_grad()
    def unroll(self) -> None:
        """Start the decoder's weights as the encoder's transposed, after the machines have learned."""
        for up, down in zip(self.encoder, reversed(self.decoder), strict=True):
            cast(nn.Linear, down).weight.copy_(cast(nn.Linear, up).weight.T)


PRESETS = {
    "autoencoder": AutoencoderConfig(),
    "autoencoder-tiny": AutoencoderConfig(in_channels=1, image_size=(6, 6), hidden_sizes=(12, 8), code_size=3),
}


def example_batch(config: AutoencoderConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures in [0, 1]."""
    return {
        "images": torch.rand(batch_size, config.in_channels or 1, *(config.image_size or (28, 28)), generator=generator)
    }
