"""Pages of `explain`: what layers make of a picture, and the training pictures that are most like it to a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from layerwise.api.learned import Lens, some
from layerwise.core.config import parse, read_yaml
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.data.examples import Examples
from layerwise.data.splits import prepare
from layerwise.explain import learned, render
from layerwise.explain.neighbours import nearest
from layerwise.nn.protocols import Features
from layerwise.tasks.base import Batch, Task
from layerwise.track.run_directory import RunDirectory
from layerwise.train.recipe import Recipe

_NEIGHBOURS = 8
_SIDE = 112  # pixels of a picture


def layers_page(network: nn.Module, task: Task, raw: Batch) -> Image.Image:
    """The picture, the filters that see its pixels (they are the same for every picture), and each layer's maps of it.

    Args:
        raw: raw columns of one example.
    """
    lens = Lens(task, network, torch.device("cpu"), channels_last=False)
    image = raw["image"][0]
    parts = [("the picture", _shown([image]))]
    filters = learned.first_filters(network, image.shape[0], (image.shape[1], image.shape[2]))
    parts += [filters] if filters is not None else []
    batch = lens.place(raw)
    parts += learned.feature_maps(network, lambda: lens.run(batch))
    return render.captioned(parts)


class Neighbours:
    """The training pictures nearest to others by the cosine of the network's features.

    Some hundreds are searched, a choice with a fixed seed that the cost of a forward pass bounds.

    Args:
        source: a run, whose training pictures are searched.
        network, task: of that run.
        trust: read data by code of a person's own.

    Raises:
        ConfigError: `source` is no run of pictures with a class each.
        UnsupportedError: the network has no features.
    """

    def __init__(self, source: str | Path, network: nn.Module, task: Task, *, trust: bool) -> None:
        if not isinstance(network, Features):
            raise UnsupportedError(f"method=nearest needs a model with features; {type(network).__name__} has none.")
        directory = RunDirectory(source)
        if not directory.exists():
            raise ConfigError(f"method=nearest searches the training pictures of a run, and {source} is none.")
        recipe: Recipe = parse(Recipe, read_yaml(directory.read_config(), str(directory.config)), trust=trust)
        train = prepare(recipe.data, recipe.seed).train if recipe.data is not None else None
        self.names: list[str] = list(getattr(task, "class_names", []))
        if train is None or train.labels() is None or not self.names:
            raise ConfigError(f"method=nearest: {source} has no training pictures with a class each.")
        self.train: Examples = train
        self.network, self.lens = network, Lens(task, network, torch.device("cpu"), channels_last=False)
        count, size = self.lens.plan(train)
        self.chosen = some(train, count)
        with torch.no_grad():
            self.held = torch.cat([self._features(train.collate(ids)) for ids in self.chosen.split(size)])

    def page(self, raw: Batch) -> tuple[Image.Image, list[dict[str, Any]]]:
        """The picture above its neighbours, and their classes and cosines, nearest first."""
        with torch.no_grad():
            places, cosines = nearest(self._features(raw), self.held, _NEIGHBOURS)
        batch = self.train.collate(self.chosen[places[0]])
        found = [
            {"label": self.names[label], "cosine": cosine}
            for label, cosine in zip(batch["labels"].tolist(), cosines[0].tolist(), strict=True)
        ]
        told = ", ".join(f"{one['label']} ({one['cosine']:.2f})" for one in found)
        parts = [("the picture", _shown([raw["image"][0]]))]
        parts += [(f"nearest of {len(self.chosen)} training pictures: {told}", _shown(list(batch["image"])))]
        return render.captioned(parts), found

    def _features(self, raw: Batch) -> Tensor:
        assert isinstance(self.network, Features)
        found = self.network.forward_features(self.lens.place(raw)["images"]).float().cpu()
        return found.mean(1) if found.dim() == 3 else found


def _shown(images: Sequence[Tensor]) -> Image.Image:
    page = render.sheet([render.raw_picture(image) for image in images], columns=len(images), side=_SIDE)
    page.thumbnail((len(images) * (_SIDE + 2), page.height))  # of large pictures
    return page
