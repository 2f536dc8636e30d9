"""A picture of 512 x 512 from its latents by the autoencoder of Stable Diffusion (83.7 million parameters), in tiles of
at most 256 pixels and at once.

The same random weights and the same smooth latents on every side. Ours is what `layerwise generate --tile 256` does, in
the precision that it chooses. The peer is diffusers' AutoencoderKL with and without `enable_tiling`. Memory is the
peak of a side's process, network and libraries included. The side that decodes at once also decodes in tiles and is
refused where a seam shows: where neighbouring pixels differ more across edges of tiles than elsewhere. How much tiles
differ from the whole is in its note; norms see one tile at a time, in diffusers' tiles as well.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.limits import counted_flops, sides
from bench.measure import OURS, Goal, Workload
from bench.pace import Pace
from bench.peers import peer

SIDE, FACTOR, TILE = 512, 8, 256
WIDTHS = (128, 256, 512, 512)
SEAM = 1.2  # differences across edges of tiles, at most, to the largest twentieth of all


def made_latents() -> Tensor:
    """Smooth, as those of pictures are."""
    coarse = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(SIDE // FACTOR,) * 2, mode="bicubic")


def their_network() -> Any:
    """diffusers' network in the configuration of Stable Diffusion, its own random weights."""
    torch.manual_seed(0)
    count = len(WIDTHS)
    return (
        peer("diffusers")
        .AutoencoderKL(
            block_out_channels=WIDTHS,
            down_block_types=("DownEncoderBlock2D",) * count,
            up_block_types=("UpDecoderBlock2D",) * count,
            layers_per_block=2,
            latent_channels=4,
            sample_size=SIDE,
        )
        .eval()
    )


def _run(pace: Pace, decode: Callable[[], Tensor], note: str) -> None:
    torch.set_flush_denormal(True)

    def pictures() -> Iterator[float]:
        with torch.inference_mode():
            while True:
                yield float(decode().numel())  # that pictures are equal is looked at by `whole`

    pace.steps(pictures(), note, warm_up=1)


def _ours() -> tuple[Any, str]:
    from layerwise.api.infer import prepare_denoiser
    from layerwise.api.models import from_pretrained

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vae"
        their_network().save_pretrained(path)
        return prepare_denoiser(from_pretrained(path).eval())


def _tiles(network: Any) -> Tensor:
    tile = TILE // FACTOR
    return network.decode_tiles(made_latents(), tile, tile // 4)


def tiled(pace: Pace) -> None:
    network, precision = _ours()
    _run(pace, lambda: _tiles(network), precision)


def whole(pace: Pace) -> None:
    network, precision = _ours()
    latents = made_latents()
    with torch.inference_mode():
        one, other = network.decode(latents).float(), _tiles(network).float()
    _refuse_seams(one, other)
    differs = float((one - other).abs().mean() / one.std())
    _run(pace, lambda: network.decode(latents), f"{precision}; tiles differ by {differs:.3f} of the deviation, no seam")


def _refuse_seams(one: Tensor, tiles: Tensor) -> None:
    """Raises RuntimeError: an edge of tiles shows where the whole picture has none."""
    from layerwise.models.generative.autoencoder_kl import cut

    found = cut(SIDE // FACTOR, TILE // FACTOR, TILE // FACTOR // 4)
    places = {at for start in found.starts for at in (start, start + found.size)} - {0, SIDE // FACTOR}
    edges = [at * FACTOR - 1 for at in sorted(places)]
    for dim in (2, 3):
        whole_steps, steps = (x.diff(dim=dim).abs().mean(dim=[d for d in range(4) if d != dim]) for x in (one, tiles))
        most = SEAM * float(torch.maximum(steps.quantile(0.95), whole_steps[edges].max()))
        if float(steps[edges].max()) > most:
            raise RuntimeError(f"a seam shows: {float(steps[edges].max()):.4f} across edges, {most:.4f} at most")


def _theirs(pace: Pace, *, tiles: bool) -> None:
    network, latents = their_network(), made_latents()
    if tiles:
        network.enable_tiling()
        network.tile_sample_min_size, network.tile_latent_min_size = TILE, TILE // FACTOR
    _run(pace, lambda: network.decode(latents).sample, "fp32")


def theirs_tiled(pace: Pace) -> None:
    _theirs(pace, tiles=True)


def theirs_whole(pace: Pace) -> None:
    _theirs(pace, tiles=False)


def flops() -> float:
    """Of one picture, decoded at once."""
    from layerwise.api.models import create_model

    def work() -> Tensor:
        network: Any = create_model("autoencoder-kl", in_channels=3)
        return network.decode(torch.empty(1, 4, SIDE // FACTOR, SIDE // FACTOR))

    return counted_flops(work)


_side = sides(__name__, ("pictures/s", 1.0), flops)
TILED, WHOLE = f"{OURS}, tiles of {TILE}", f"{OURS}, at once"
THEIRS_TILED, THEIRS_WHOLE = f"diffusers, tiles of {TILE}", "diffusers, at once"

WORKLOAD = Workload(
    title=f"a picture of {SIDE} x {SIDE} from its latents, the autoencoder of Stable Diffusion",
    unit="picture",
    launches=1,
    turns=3,
    contenders=(
        _side(TILED, "tiled", "bf16"),
        _side(WHOLE, "whole", "bf16"),
        _side(THEIRS_TILED, "theirs_tiled", "fp32"),
        _side(THEIRS_WHOLE, "theirs_whole", "fp32"),
    ),
    goals=(
        Goal(ours=TILED, peers=(THEIRS_TILED,), kind="memory", value=1.0),
        Goal(ours=TILED, peers=(THEIRS_WHOLE,), kind="memory", value=0.6),
        Goal(ours=TILED, peers=(THEIRS_TILED,), kind="speedup"),
        Goal(ours=WHOLE, peers=(THEIRS_WHOLE,), kind="speedup"),
    ),
)
