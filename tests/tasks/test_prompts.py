"""Whether pictures show what was asked for: which captions are chosen, what counts as recognised, what chance gives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from layerwise.data.texts import TextExamples
from layerwise.tasks.prompts import PromptMetrics, Prompts, choose_prompts, mean_over_kinds, save_captioned


def examples(kinds: list[int]) -> TextExamples:
    return TextExamples([f"text {i}" for i in range(len(kinds))], {"labels": torch.tensor(kinds)})


def test_every_kind_gives_nearly_as_many_captions_as_the_others() -> None:
    kinds = [0] * 50 + [1] * 7 + [2]
    found = choose_prompts(examples(kinds), 9, seed=0)
    assert found is not None
    assert torch.bincount(found.kinds).tolist() == [4, 4, 1]
    assert found.texts == [f"text {i}" for i in found.ids.tolist()]
    assert found.kinds.tolist() == [kinds[i] for i in found.ids.tolist()]
    assert len(set(found.ids.tolist())) == 9
    other = choose_prompts(examples(kinds), 9, seed=1)
    assert other is not None
    assert set(other.ids.tolist()) != set(found.ids.tolist())
    whole = choose_prompts(examples(kinds), 100, seed=0)
    assert whole is not None
    assert sorted(whole.ids.tolist()) == list(range(58))
    assert choose_prompts(TextExamples(["a"], {}), 3, seed=0) is None


def test_the_share_recognised_is_a_mean_over_kinds() -> None:
    """By hand: kind 0 two of three, kind 3 none of one, kind 4 all of two."""
    accuracy, chance = mean_over_kinds(torch.tensor([0, 3, 0, 4, 0, 4]), torch.tensor([0, 0, 0, 4, 4, 4]))
    assert accuracy == pytest.approx((2 / 3 + 0 + 1) / 3, rel=1e-12)
    assert chance == pytest.approx(1 / 3, rel=1e-12)


def test_pictures_that_do_not_heed_their_captions_are_at_chance() -> None:
    """Always the commonest kind: by the plain share it would be right for nine captions in ten."""
    asked = torch.tensor([0] * 90 + [1] * 5 + [2] * 5)
    accuracy, chance = mean_over_kinds(asked, torch.zeros_like(asked))
    assert accuracy == pytest.approx(chance, rel=1e-12)


class Seer:
    """Reads the kind off a picture's first value."""

    class_names = ("bird", "fish", "tree")

    def recognise(self, pictures: Tensor) -> Tensor:
        return pictures[:, 0, 0, 0].long()


class Inner:
    """Metrics whose newest pictures show the kind named in the batch."""

    def __init__(self) -> None:
        self.newest: Any = ({}, torch.empty(0))

    def update(self, network: nn.Module, batch: dict[str, Tensor]) -> None:
        self.newest = (batch, batch["shown"][:, None, None, None].expand(-1, 1, 2, 2))

    def state(self) -> dict[str, Tensor]:
        return {"x": torch.ones(())}

    def merge(self, states: list[dict[str, Tensor]]) -> None:
        assert states == [{"x": torch.ones(())}] * 2

    def compute(self) -> dict[str, float]:
        return {"other": 1.0}

    def table(self) -> dict[str, Any]:
        return {"made": 4}


def metrics() -> PromptMetrics:
    prompts = Prompts(["a tree", "a fish", "a cloud"], torch.tensor([2, 1, 0]), torch.tensor([10, 11, 12]))
    shown = {"a tree": 2, "a fish": 0, "a cloud": 0}

    def draw(network: nn.Module, some: Prompts) -> Tensor:
        return torch.tensor([shown[text] for text in some.texts])[:, None, None, None].expand(-1, 1, 2, 2)

    names = ("cloud", "fish", "tree", "bird")  # another order than the classifier's, and one that it does not know
    return PromptMetrics(Inner(), Seer(), names, prompts, draw, lambda x: x)


def batch(ids: list[int], kinds: list[int], shown: list[int]) -> dict[str, Tensor]:
    return {"sample_ids": torch.tensor(ids), "kinds": torch.tensor(kinds), "shown": torch.tensor(shown)}


def test_kinds_are_matched_by_name_and_unknown_ones_left_out() -> None:
    found = metrics()
    found.update(nn.Identity(), batch([0, 1], [3, 2], [0, 2]))  # a bird and a tree, both shown
    found.update(nn.Identity(), batch([2, 3], [1, 0], [2, 1]))  # a fish that is a tree, a cloud
    assert found.compute() == pytest.approx(
        {"other": 1.0, "prompt_accuracy": 1 / 2, "prompt_chance": 1 / 2, "prompt_accuracy_held_out": 2 / 3}
    )
    assert found.table() == {"made": 4, "prompts": 2, "prompts_held_out": 3}


def test_processes_together_count_each_picture_once() -> None:
    whole, first, second = metrics(), metrics(), metrics()
    for part in (batch([0, 1], [3, 2], [0, 1]), batch([2], [1], [1])):
        whole.update(nn.Identity(), part)
    first.update(nn.Identity(), batch([0, 1], [3, 2], [0, 1]))
    second.update(nn.Identity(), batch([2], [1], [1]))
    first.merge([first.state(), second.state()])
    assert first.compute() == whole.compute()
    assert first.table() == whole.table()


def test_a_grid_shows_each_picture_above_its_text(tmp_path: Path) -> None:
    pictures = torch.stack([torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (50, 100, 150)])
    save_captioned(pictures, ["one", "two " * 40, "drei"], tmp_path / "grid.png", columns=2, side=64)
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.getpixel((10, 10)) == (50, 50, 50)
        assert grid.getpixel((64 + 4 + 10, 10)) == (100, 100, 100)
        assert grid.size[0] == 2 * 68
        below = grid.crop((0, 64 + 4, 64, 64 + 4 + 12)).convert("L")
        assert min(below.tobytes()) < 100  # text, dark on white
