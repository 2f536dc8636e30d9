"""What a network that denoises pictures themselves says where others speak of latents (`nn.protocols.Denoiser`)."""

from torch import Tensor


class PixelSpace:
    """Samples are the pictures, the condition is the class."""

    in_channels: int
    num_classes: int
    null_class: bool  # whether one class more stands for none

    def sample_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Of what is denoised, for pictures of that size."""
        return (self.in_channels, height, width)

    def to_samples(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Pictures [B, C, H, W] in [-1, 1] as what is denoised."""
        return images

    def to_images(self, samples: Tensor) -> Tensor:
        """Back to pictures."""
        return samples

    def embed_condition(self, condition: Tensor) -> Tensor:
        """Classes [B] as `forward` takes them."""
        return condition
