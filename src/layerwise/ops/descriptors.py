"""Descriptors of pictures from before learned features: histograms of oriented gradients, and of colours.

N. Dalal, B. Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005,
https://doi.org/10.1109/CVPR.2005.177

Shapes: B pictures, C channels, H W pixels, K orientations, P Q cells down and across, N numbers of a descriptor.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from layerwise.core.errors import ConfigError

_EPS = 1e-5
_CLIP = 0.2  # of normalised blocks, before they are normalised again (Lowe 2004; Dalal and Triggs: L2-Hys)


def hog(
    images: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"],
    *,
    orientations: int = 9,
    cell_size: int = 8,
    block_cells: int = 2,
) -> Float[Tensor, "B N"]:
    """Histograms of oriented gradients (Dalal and Triggs 2005): cells of pixels vote for the directions of their edges,
    overlapping blocks of cells are normalised by L2-Hys.

    Gradients are central differences without smoothing, zero at the border, of the channel where they are largest; the
    direction is unsigned. A pixel votes with its gradient's length for one direction of one cell.

    Args:
        images: uint8, computed in float32, or floats of any range.
        orientations: K, directions in half a turn.
        cell_size: pixels a cell's side; pixels beyond the last whole cell are not used.
        block_cells: cells a block's side.

    Returns:
        N = (P - block_cells + 1) (Q - block_cells + 1) block_cells^2 K numbers a picture, by block row, block column,
        cell row, cell column, direction.

    Raises:
        ConfigError: a picture has less than one block.

    Note:
        The paper shares a vote among neighbouring directions and cells; here it goes to one, as in scikit-image, whose
        `feature.hog` gives the same numbers.

    Example:
        >>> hog(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 324])
    """
    rows, columns = images.shape[-2] // cell_size, images.shape[-1] // cell_size
    if min(rows, columns) < block_cells:
        raise ConfigError(
            f"A block of {block_cells} cells of {cell_size} pixels does not fit into a picture of "
            f"{images.shape[-2]} x {images.shape[-1]} pixels"
        )
    x = images if images.is_floating_point() else images.to(torch.float32)
    down, across = torch.zeros_like(x), torch.zeros_like(x)
    down[..., 1:-1, :] = x[..., 2:, :] - x[..., :-2, :]
    across[..., :, 1:-1] = x[..., :, 2:] - x[..., :, :-2]
    length, channel = torch.hypot(across, down).max(dim=1, keepdim=True)
    angle = torch.atan2(down.gather(1, channel), across.gather(1, channel)).rad2deg().remainder(180.0)
    bins = (angle * (orientations / 180.0)).long().clamp_(max=orientations - 1)
    cells = torch.cat([F.avg_pool2d(length * (bins == k), cell_size) for k in range(orientations)], dim=1)
    blocks = cells.unfold(2, block_cells, 1).unfold(3, block_cells, 1)  # [B, K, P', Q', block_cells, block_cells]
    blocks = blocks.permute(0, 2, 3, 4, 5, 1).flatten(3)
    blocks = _l2(_l2(blocks).clamp(max=_CLIP))
    return blocks.flatten(1)


def _l2(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(-1, keepdim=True) + _EPS**2).sqrt()


def color_histogram(images: UInt8[Tensor, "B C H W"], bins: int = 8) -> Float[Tensor, "B N"]:
    """Share of a picture's pixels in each cell of colour space, every channel cut into equal parts.

    Args:
        images: uint8.
        bins: parts of 0..255 in each channel, up to 256; N = bins^C.

    Returns:
        float32, in order of the first channel's part, then the second's ...

    Example:
        >>> color_histogram(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), bins=2).tolist()
        [[0.5, 0.5]]
    """
    parts = images.long() * bins // 256
    cell = torch.zeros_like(parts[:, 0])
    for channel in range(images.shape[1]):
        cell = cell * bins + parts[:, channel]
    return _counts(cell.flatten(1), bins ** images.shape[1]) / cell[0].numel()


def _counts(cells: Int[Tensor, "B M"], number: int) -> Float[Tensor, "B N"]:
    counts = torch.zeros(cells.shape[0], number, device=cells.device)
    return counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=counts.dtype))
