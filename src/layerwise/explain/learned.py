"""What each layer of a network learned: a linear probe by depth, a map of each layer's features, filters, feature maps.

The examples are few and fixed by the data alone, so the cost is bounded and the same network gives the same figures.

Shapes: B examples, C channels, H W height and width.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from layerwise.explain.layers import as_vectors, recorded_layers, shape_text
from layerwise.explain.probe import linear_probe, principal_map
from layerwise.explain.render import Colours, amounts, colour_filter, sheet, signed
from layerwise.nn.blocks import weight_layers

MOST_VALUES = 1024  # of a layer's vector
MOST_PROBED = 12  # layers
MOST_MAPPED = 6  # layers
MOST_FILTERS = 64
MOST_TILES = 16  # maps of a layer that are shown
_SHEET = 640  # pixels across


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Some examples' features.

    Args:
        layers: name -> vectors [N, D] of each layer, in order of depth, the input first.
        gives: name -> what one example has there, in words.
        labels: int64 [N].
        predicted: int64 [N], the class of the largest score.
    """

    layers: dict[str, Tensor]
    gives: dict[str, str]
    labels: Tensor
    predicted: Tensor


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """What a layer's features tell of the classes.

    Args:
        layer: its name.
        gives: what one example has there, in words.
        values: of it that the probe sees.
        right: validation examples that the probe classifies right.
        count: validation examples.
    """

    layer: str
    gives: str
    values: int
    right: int
    count: int


def evenly(names: Sequence[str], most: int) -> list[str]:
    """At most `most` of the names, evenly spread, the first and the last among them."""
    if len(names) <= most:
        return list(names)
    return [names[round(i * (len(names) - 1) / (most - 1))] for i in range(most)]


def collect(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, str, Callable[[], Tensor], Tensor]],
) -> Examples:
    """Features of each layer for some batches, without gradients.

    Args:
        network: in eval mode.
        batches: (the input as vectors [B, D], the input in words, a function that runs the network on it
            and gives scores [B, K], labels [B]).
    """
    found: dict[str, list[Tensor]] = {}
    gives: dict[str, str] = {}
    labels: list[Tensor] = []
    predicted: list[Tensor] = []
    for vectors, words, run, own in batches:
        with torch.no_grad(), recorded_layers(network) as layers:
            predicted.append(run().argmax(1).cpu())
        labels.append(own.cpu())
        found.setdefault("input", []).append(vectors.float().cpu())
        gives["input"] = words
        for name, features in layers.items():
            found.setdefault(name, []).append(as_vectors(features.float(), MOST_VALUES).cpu())
            gives[name] = shape_text(features)
    layers = {name: torch.cat(parts) for name, parts in found.items()}
    return Examples(layers=layers, gives=gives, labels=torch.cat(labels), predicted=torch.cat(predicted))


def probes_by_depth(train: Examples, val: Examples, classes: int) -> list[LayerProbe]:
    """A linear probe of the input and of each layer (evenly chosen ones of a deep network), read on validation data.

    Raises:
        NumericsError: a layer's features are not finite.
    """
    found: list[LayerProbe] = []
    for name in evenly(list(train.layers), MOST_PROBED):
        x = train.layers[name]
        probe = linear_probe(x, train.labels, val.layers[name], val.labels, classes)
        found.append(
            LayerProbe(layer=name, gives=train.gives[name], values=x.shape[1], right=probe.right, count=probe.count)
        )
    return found


def maps_by_depth(examples: Examples, most: int) -> list[tuple[str, Tensor, float]]:
    """(layer, places [N, 2], share of variance) for the first `most` examples: their two principal components.

    Raises:
        NumericsError: a layer's features are not finite.
    """
    names = evenly(list(examples.layers), MOST_MAPPED)
    return [(name, *principal_map(examples.layers[name][:most])) for name in names]


def first_filters(network: nn.Module, channels: int, size: tuple[int, int]) -> tuple[str, Image.Image] | None:
    """The weights that see the pixels, as (what they are, picture); None where the first layer does not.

    Args:
        network: on pictures.
        channels: of its pictures, 1 or 3.
        size: height and width of its pictures.
    """
    names = weight_layers(network)
    if not names or channels not in (1, 3):
        return None
    weight = next(
        p for _, p in network.get_submodule(names[0]).named_parameters(recurse=False) if p.dim() >= 2
    ).detach()
    if weight.dim() == 4 and weight.shape[1] == channels and min(weight.shape[2:]) > 1:
        filters = weight
    elif weight.dim() == 2 and weight.shape[1] == channels * size[0] * size[1]:
        filters = weight.view(-1, channels, *size)
    else:
        return None
    filters = filters.float().cpu()
    order = filters.flatten(1).norm(dim=1).argsort(descending=True, stable=True)[:MOST_FILTERS].sort().values
    chosen = filters[order]
    tiles = [signed(one[0]) if channels == 1 else colour_filter(one) for one in chosen]
    what = f"{len(filters)} filters of {filters.shape[2]} x {filters.shape[3]} in {names[0] or 'the first layer'}"
    if len(chosen) < len(filters):
        what += f", the {len(chosen)} of largest norm"
    return what, _sheet(tiles, columns=16 if len(tiles) > 16 else 8, gap=5)  # white is a value of a filter


def feature_maps(network: nn.Module, run: Callable[[], object]) -> list[tuple[str, Image.Image]]:
    """(what it is, picture) of each layer for the first example that `run` runs the network on.

    Maps are shown in descending order of their variance over positions; vectors as a block of cells.
    """
    with torch.no_grad(), recorded_layers(network) as layers:
        run()
    found: list[tuple[str, Image.Image]] = []
    for name in evenly(list(layers), MOST_MAPPED):
        values = layers[name][0].float().cpu()
        words = shape_text(layers[name])
        if values.dim() == 3 and min(values.shape[1:]) > 1:
            order = values.flatten(1).var(dim=1).argsort(descending=True, stable=True)[:MOST_TILES]
            if len(order) < len(values):
                words += f", the {len(order)} that vary most"
            found.append((f"{name}: {words}", _sheet([amounts(values[i]) for i in order], columns=8)))
        elif values.numel() <= 4096 and values.dim() != 2:
            found.append((f"{name}: {words}", _cells(values.flatten())))
    return found


def _cells(values: Tensor) -> Image.Image:
    """A vector as rows of 32 cells."""
    columns = min(32, len(values))
    colours = amounts(values[None])[0]
    tiles = [colours[i][None, None] for i in range(len(values))]
    return sheet(tiles, columns=columns, side=_SHEET // 32 - 2)


def _sheet(tiles: Sequence[Colours], columns: int, gap: int = 2) -> Image.Image:
    columns = min(columns, max(4, len(tiles)))
    return sheet(tiles, columns=columns, side=min(72, _SHEET // columns - gap), gap=gap)
