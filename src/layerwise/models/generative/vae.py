"""Variational autoencoder: a code with a distribution, from which pictures can be drawn.

Paper: D. P. Kingma, M. Welling, "Auto-encoding variational Bayes", ICLR 2014, https://arxiv.org/abs/1312.6114; the
perceptron of two hidden layers is that of Y. Burda, R. Grosse, R. Salakhutdinov, "Importance weighted autoencoders",
ICLR 2016, https://arxiv.org/abs/1509.00519 (section 5, one stochastic layer); with labels: K. Sohn, H. Lee, X. Yan,
"Learning structured output representation using deep conditional generative models", NeurIPS 2015.

Differs from the paper: a normal decoder has one learned variance for all pixels, not one a pixel that the code decides:
on constant pixels the latter's density grows without bound. `vae-conv` puts convolutions between pixels and hidden
layers.

Shapes: B batch, C H W pictures, D code, K classes.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PictureSize, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.init import Init, initialise
from layerwise.ops.random import Draws

CARD = Card(
    title="Variational autoencoder",
    authors="Diederik P. Kingma, Max Welling",
    paper="Auto-encoding variational Bayes",
    year=2013,
    link="https://arxiv.org/abs/1312.6114",
    inputs={"images": "float [B, in_channels, H, W] in [0, 1]", "labels": "int64 [B], of a conditional model"},
    outputs={
        "reconstruction": "float [B, in_channels, H, W], the decoder's mean at the code's mean",
        "mean": "float [B, code_size] of q(z | x)",
        "log_variance": "float [B, code_size] of q(z | x)",
    },
    differences=("A normal decoder has one learned variance for all pixels.",),
    capabilities=("differentiable", "features", "generates"),
)

_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of the encoder; the decoder mirrors it.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures, each divisible by 2 ** len(widths); None takes the data's.
        num_classes: of a conditional model; None takes the data's, 0 is none.
        conditional: encoder and decoder are told the class of the picture.
        widths: channels of convolutions that halve height and width, between pixels and hidden layers; none: a
            perceptron.
        hidden_sizes: units of the hidden layers between them and the code.
        code_size: numbers of the code.
        activation: of all hidden units.
        likelihood: "bernoulli" is for pixels that are 0 or 1, "gaussian" for grey levels in [0, 1].
    """

    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = None
    num_classes: NonNegativeInt | None = None
    conditional: bool = False
    widths: tuple[PositiveInt, ...] = ()
    hidden_sizes: tuple[PositiveInt, ...] = (200, 200)
    code_size: PositiveInt = 50
    activation: Literal["tanh", "relu"] = "tanh"
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"

    def __post_init__(self) -> None:
        if not self.hidden_sizes:
            raise ConfigError("hidden_sizes=(): at least one hidden layer is needed.")
        factor = 2 ** len(self.widths)
        if self.image_size is not None and any(size % factor for size in self.image_size):
            raise ConfigError(
                f"image_size={self.image_size}: {len(self.widths)} widths need height and width divisible by {factor}."
            )


class VAEOutput(NamedTuple):
    """Reconstructions [B, C, H, W], and mean and log variance of the code [B, D]."""

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


def _perceptron(sizes: tuple[int, ...], activation: type[nn.Module]) -> list[nn.Module]:
    return [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), activation())]


class Encoder(nn.Module):
    """Pictures to mean and log variance of the code: convolutions, hidden layers, one linear map to both.

    Args:
        picture_shape: channels, height and width.
        widths, hidden_sizes, code_size: as in the configuration.
        num_classes: length of the one-hot vector that joins the first hidden layer's input; 0 for none.
        activation: class of the hidden units' function.
    """

    def __init__(
        self, *, picture_shape: tuple[int, int, int], widths: tuple[int, ...], hidden_sizes: tuple[int, ...],
        code_size: int, num_classes: int, activation: type[nn.Module],
    ) -> None:  # fmt: skip
        super().__init__()
        channels, height, width = picture_shape
        factor = 2 ** len(widths)
        self.convolutions = nn.Sequential(
            *(
                layer
                for a, b in itertools.pairwise((channels, *widths))
                for layer in (nn.Conv2d(a, b, 4, stride=2, padding=1), activation())
            )
        )
        flat = (widths[-1] if widths else channels) * (height // factor) * (width // factor)
        self.hidden = nn.Sequential(*_perceptron((flat + num_classes, *hidden_sizes), activation))
        self.code = nn.Linear(hidden_sizes[-1], 2 * code_size)

    def forward(self, images: Float[Tensor, "B C H W"], classes: Float[Tensor, "B K"]) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.convolutions(images).flatten(1), classes], dim=1)
        mean, log_variance = self.code(self.hidden(x)).chunk(2, dim=1)
        return mean, log_variance


class Decoder(nn.Module):
    """Codes to one number a pixel: the encoder's layers mirrored. The arguments are the encoder's."""

    def __init__(
        self, *, picture_shape: tuple[int, int, int], widths: tuple[int, ...], hidden_sizes: tuple[int, ...],
        code_size: int, num_classes: int, activation: type[nn.Module],
    ) -> None:  # fmt: skip
        super().__init__()
        channels, height, width = picture_shape
        factor = 2 ** len(widths)
        self.start = (widths[-1] if widths else channels, height // factor, width // factor)
        self.hidden = nn.Sequential(*_perceptron((code_size + num_classes, *hidden_sizes[::-1]), activation))
        self.output = nn.Linear(hidden_sizes[0], math.prod(self.start))
        self.convolutions = nn.Sequential(
            *(
                layer
                for a, b in itertools.pairwise((*widths[::-1], channels))
                for layer in (activation(), nn.ConvTranspose2d(a, b, 4, stride=2, padding=1))
            )
        )

    def forward(self, code: Float[Tensor, "B D"], classes: Float[Tensor, "B K"]) -> Float[Tensor, "B C H W"]:
        x = self.output(self.hidden(torch.cat([code, classes], dim=1)))
        return self.convolutions(x.unflatten(1, self.start))


class VAE(nn.Module):
    """`z ~ N(0, 1)`, `x ~ p(x | z)` by a decoder, and an encoder's `q(z | x) = N(mean(x), exp(log_variance(x)))`.

    Shape:
        images [B, C, H, W] in [0, 1] -> reconstruction [B, C, H, W], mean and log variance [B, code_size].

    Example:
        >>> net = VAE(VAEConfig(in_channels=1, image_size=(28, 28)))
        >>> net(torch.zeros(2, 1, 28, 28)).mean.shape
        torch.Size([2, 50])
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        if config.in_channels is None or config.image_size is None:
            raise ConfigError("in_channels and image_size are needed; they come from the data or are given.")
        if config.conditional and not config.num_classes:
            raise ConfigError("conditional=true needs num_classes: the data has no classes, or say how many.")
        self.config, self.code_size = config, config.code_size
        self.num_classes = (config.num_classes or 0) if config.conditional else 0
        self.picture_shape = (config.in_channels, *config.image_size)
        activation = _ACTIVATIONS[config.activation]
        self.encoder = Encoder(
            picture_shape=self.picture_shape, widths=config.widths, hidden_sizes=config.hidden_sizes,
            code_size=config.code_size, num_classes=self.num_classes, activation=activation,
        )  # fmt: skip
        self.decoder = Decoder(
            picture_shape=self.picture_shape, widths=config.widths, hidden_sizes=config.hidden_sizes,
            code_size=config.code_size, num_classes=self.num_classes, activation=activation,
        )  # fmt: skip
        if config.likelihood == "gaussian":
            self.pixel_log_variance = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform distribution as in Burda et al., He's normal before rectifiers; biases 0, the variance of a
        normal decoder 0.05."""
        name = "glorot_uniform" if self.config.activation == "tanh" else "he_normal"
        rules = {"*.bias": Init("zeros"), "*.weight": Init(name)}
        if self.config.likelihood == "gaussian":
            nn.init.constant_(self.pixel_log_variance, math.log(0.05))
        for part in (self.encoder, self.decoder):
            initialise(part, rules)

    def _classes(self, labels: Tensor | None, like: Tensor) -> Tensor:
        """One-hot vectors [B, K], of no width where the model is not conditional.

        Raises:
            ConfigError: a conditional model was given no labels.
        """
        if not self.num_classes:
            return like.new_zeros(len(like), 0)
        if labels is None:
            raise ConfigError("This model is conditional: it needs labels.")
        return F.one_hot(labels, self.num_classes).to(like.dtype)

    def encode_distribution(
        self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x), [B, D] each."""
        return self.encoder(images, self._classes(labels, images))

    def decode(self, code: Float[Tensor, "B D"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "B C H W"]:
        """What the decoder gives: logits of binary pixels, or means of normal ones."""
        return self.decoder(code, self._classes(labels, code))

    def decode_pictures(self, code: Float[Tensor, "B D"], labels: Int[Tensor, " B"] | None = None) -> Tensor:
        """The mean of p(x | z) [B, C, H, W]."""
        made = self.decode(code, labels)
        return torch.sigmoid(made.float()) if self.config.likelihood == "bernoulli" else made.float()

    def log_likelihood(
        self, images: Float[Tensor, "B C H W"], code: Float[Tensor, "B D"], labels: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, " B"]:
        """log p(x | z), summed over pixels: in float32 on purpose, or float64."""
        made = self.decode(code, labels)
        made = made if made.dtype == torch.float64 else made.float()
        target = images.to(made.dtype)
        if self.config.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(made, target, reduction="none").flatten(1).sum(1)
        log_variance = self.pixel_log_variance.to(made.dtype)
        squares = (target - made).square().flatten(1).sum(1)
        count = math.prod(self.picture_shape)
        return -0.5 * (squares * torch.exp(-log_variance) + count * (log_variance + math.log(2 * math.pi)))

    def forward_features(
        self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B D"]:
        """The code's mean."""
        return self.encode_distribution(images, labels)[0]

    def draw_labels(self, sample_ids: Int[Tensor, " B"], draws: Draws) -> Int[Tensor, " B"] | None:
        """Classes by chance, all equally likely; None of a model without classes."""
        return draws.integers(sample_ids, (), "labels", self.num_classes) if self.num_classes else None

    def sample_pictures(self, sample_ids: Int[Tensor, " B"], draws: Draws) -> Float[Tensor, "B C H W"]:
        """Means of p(x | z) at codes from the prior (pixel probabilities, not samples, as is usual to show)."""
        code = draws.normal(sample_ids, (self.code_size,), "code", self.decoder.output.weight.dtype)
        return self.decode_pictures(code, self.draw_labels(sample_ids, draws)).clamp(0, 1)

    def forward(self, images: Float[Tensor, "B C H W"], labels: Int[Tensor, " B"] | None = None) -> VAEOutput:
        """Reconstruction through the code's mean, and the code's distribution."""
        mean, log_variance = self.encode_distribution(images, labels)
        return VAEOutput(self.decode_pictures(mean, labels), mean.float(), log_variance.float())


PRESETS = {
    "vae": VAEConfig(),
    "vae-conv": VAEConfig(widths=(32, 64), hidden_sizes=(256,), code_size=32, activation="relu"),
    "vae-tiny": VAEConfig(
        in_channels=1, image_size=(8, 8), num_classes=3, conditional=True, widths=(4,), hidden_sizes=(12,), code_size=3
    ),
}


def example_batch(config: VAEConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures in [0, 1], and labels of a conditional model."""
    images = torch.rand(batch_size, config.in_channels or 1, *(config.image_size or (28, 28)), generator=generator)
    if not config.conditional:
        return {"images": images}
    return {"images": images, "labels": torch.randint(config.num_classes or 10, (batch_size,), generator=generator)}
