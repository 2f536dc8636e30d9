"""The weights file of the Frechet Inception distance: told by its tensors, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import layerwise as lw
from layerwise.api.open import open_model
from layerwise.core.errors import CheckpointError, ConfigError, UnsupportedError
from layerwise.interop import frechet_inception
from layerwise.interop.layouts import recognise
from layerwise.interop.weights import identified

FILE = "pt_inception-2015-12-05-6726825d.pth"


def state_of(**options: Any) -> dict[str, Tensor]:
    """Weights of Inception v3 without a start drawn for them."""
    with torch.device("meta"):
        network = lw.create_model("inception_v3", **options)
    state = network.to_empty(device="cpu").state_dict()
    for value in state.values():
        value.fill_(0.01)
    return state


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file with the names and shapes of the published one; like it without counts of batches."""
    state = state_of(num_classes=1008, auxiliary=False)
    torch.save({n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}, tmp_path / FILE)
    return tmp_path / FILE


def test_the_file_is_told_by_its_tensors(weights: Path) -> None:
    found = identified(recognise(weights))
    assert (found.library, found.model) == ("pytorch-fid weights file", {"name": "inception_v3-fid"})
    network = lw.from_pretrained(weights)
    assert (network.config.pools, network.config.num_classes) == ("tensorflow-2015", 1008)
    assert torch.equal(network.fc.weight, torch.full((1008, 2048), 0.01))
    opened, task, _ = open_model(weights)
    assert opened.config == network.config
    state: dict[str, Any] = task.state()
    assert (state["image_size"], state["preprocessing"]["mean"]) == ([299, 299], [0.5] * 3)


def test_a_model_that_is_named_is_what_the_file_is_taken_for(weights: Path) -> None:
    network = lw.from_pretrained(weights, model="inception_v3", auxiliary=False)
    assert network.config.pools == "torchvision"


@pytest.mark.parametrize("options", [{"num_classes": 1000, "auxiliary": False}, {"num_classes": 1008}])
def test_other_inceptions_are_not_taken_for_it(options: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state_of(**options), tmp_path / FILE)
    assert identified(recognise(tmp_path / FILE)).model is None
    with pytest.raises(ConfigError, match="name its architecture"):
        lw.from_pretrained(tmp_path / FILE)


def test_a_file_that_is_cut_short_is_damaged(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:10_000])
    with pytest.raises(CheckpointError, match="damaged"):
        open_model(weights)


def test_it_is_saved_back_and_says_what_it_is(weights: Path, tmp_path: Path) -> None:
    lw.save_pretrained(lw.from_pretrained(weights), tmp_path / "out", frechet_inception.LIBRARY)
    back = torch.load(tmp_path / "out" / "model.pth", weights_only=True)
    theirs = torch.load(weights, weights_only=True)
    assert theirs.keys() <= back.keys()
    assert all(torch.equal(value, back[name]) for name, value in theirs.items())
    assert lw.from_pretrained(tmp_path / "out").config.pools == "tensorflow-2015"
    with torch.device("meta"):
        other = lw.create_model("inception_v3", num_classes=1008)
    with pytest.raises(UnsupportedError, match="pools='torchvision'"):
        lw.save_pretrained(other, tmp_path / "other", frechet_inception.LIBRARY)
