"""What a path holds is recognised; what is damaged, unknown or out of reach is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import layerwise as lw
from layerwise.core.errors import CheckpointError, ConfigError, MissingExtraError, UnsupportedError
from layerwise.data import hub
from layerwise.data.fit import Fit
from layerwise.interop.layouts import layouts_of, recognise
from layerwise.interop.preprocessing import Preprocessing
from layerwise.interop.rules import to_theirs
from layerwise.interop.weights import read_weights


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A model directory of this package."""
    torch.manual_seed(0)
    lw.save_pretrained(lw.create_model("vit-tiny"), tmp_path / "own")
    return tmp_path / "own"


def test_a_model_directory_and_its_weights_file_are_recognised(own: Path) -> None:
    for source in (own, own / "model.safetensors", str(own)):
        found = recognise(source)
        assert found.library == "layerwise"
        assert found.model is not None
        assert found.model["name"] == "vit-tiny"
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(lw.from_pretrained(own)(images), lw.from_pretrained(own / "model.safetensors")(images))


def test_a_model_that_is_named_must_be_the_directorys(own: Path) -> None:
    lw.from_pretrained(own, model="vit-tiny")
    with pytest.raises(ConfigError, match="model=lenet5 contradicts"):
        lw.from_pretrained(own, model="lenet5")


def test_options_in_place_of_the_checkpoints_own(own: Path) -> None:
    network = lw.from_pretrained(own, num_classes=2, drop_path=0.5)
    assert (network.config.num_classes, network.config.drop_path) == (2, 0.5)
    with pytest.raises(ConfigError, match="num_heds"):
        lw.from_pretrained(own, num_heds=2)


def test_missing_tensors_are_named_or_left_as_initialised(own: Path, tmp_path: Path) -> None:
    state = read_weights(own / "model.safetensors")
    del state["norm.weight"]
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"missing norm\.weight"):
        lw.from_pretrained(tmp_path / "part.pt", model="vit-tiny")
    with pytest.warns(UserWarning, match=r"missing: norm\.weight"):
        network = lw.from_pretrained(tmp_path / "part.pt", model="vit-tiny", strict=False)
    assert torch.equal(network.norm.weight, torch.ones(32))
    assert torch.equal(network.cls_token, state["cls_token"])


def test_classes_and_channels_of_a_bare_file_are_its_own(tmp_path: Path) -> None:
    network = lw.create_model("resnet18", num_classes=11, in_channels=2)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    found = lw.from_pretrained(tmp_path / "weights.pth", model="resnet18")
    assert (found.config.num_classes, found.config.in_channels) == (11, 2)


def write(folder: Path, text: str | dict[str, Any], weights: bytes | None = b"") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(text if isinstance(text, str) else json.dumps(text))
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize(
    ("config", "weights", "word"),
    [
        ("{", b"", "config.json is damaged"),
        ("[1]", b"", "should hold an object"),
        ("[" * 100_000, b"", "damaged"),
        ({}, b"", "neither the architecture"),
        ({"architecture": "nfnet_l0"}, b"", "'nfnet_l0'"),
        ({"model_type": "wav2vec2"}, b"", "'wav2vec2'"),
        ({"architecture": "resnet18", "pretrained_cfg": 3}, b"", "pretrained_cfg"),
        ({"architecture": "resnet18", "num_classes": "many"}, b"", "num_classes='many'"),
        ({"architecture": "resnet18", "model_args": {"layers": 3}}, b"", "layers=3"),
        ({"architecture": "resnet18"}, None, "has no weights"),
        ({"architecture": "resnet18"}, b"\x00" * 64, "damaged"),
        ({"model_type": "vit", "id2label": {"a": "b"}}, b"", "numbered"),
        ({"model_type": "vit", "architectures": "ViT"}, b"", "architectures='ViT'"),
        ({"model": {"options": 1}, "tied": {}}, b"", "its model has no name"),
        ({"library": "torchvision", "architecture": "resnet18", "options": {"block": 1}}, b"", "options="),
    ],
)
def test_damage_is_named(config: Any, weights: bytes | None, word: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "held", config, weights)
    with pytest.raises(CheckpointError, match=word):
        lw.from_pretrained(folder)


@pytest.mark.parametrize("part", ["../outside.safetensors", "/etc/passwd"])
def test_parts_of_the_weights_lie_beside_their_index(part: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "held", {"model_type": "vit"}, None)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": part}}))
    with pytest.raises(CheckpointError, match="not a file beside it"):
        recognise(folder)


def test_a_pickle_that_could_run_code_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "hook": print}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        lw.from_pretrained(tmp_path / "code.pth", model="resnet18")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04broken"])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_that_is_no_weights_file_is_damaged(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        lw.from_pretrained(tmp_path / name, model="resnet18")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match="no such run"):
        recognise(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"no config\.json"):
        recognise(tmp_path / "empty")
    with pytest.raises(CheckpointError, match=r"\.safetensors, \.pth"):
        recognise(tmp_path / "notes.txt", model="resnet18")


def test_a_misspelt_run_is_not_sought_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub.is_hub_id("runs/a")
    (tmp_path / "runs").mkdir()
    assert not hub.is_hub_id("runs/a")
    assert hub.is_hub_id("hf-hub:runs/a")
    with pytest.raises(ConfigError, match="runs/a: no such run, model directory or weights file"):
        recognise("runs/a")


def test_a_hub_id_needs_the_network_or_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    assert hub.is_hub_id("google/vit-base-patch16-224")
    assert not any(map(hub.is_hub_id, ("./google/vit", "vit", "/a/b", "a/b/c", "photos/")))
    with pytest.raises(UnsupportedError, match="HF_HUB_OFFLINE"):
        recognise("nobody/has-this")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"layerwise\[hub\]"):
        recognise("nobody/has-this")


def test_a_repository_in_the_cache_is_used(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: list[tuple[str, bool]] = []

    def snapshot(repo: str, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((repo, local_files_only))
        return str(own)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert recognise("someone/vit").library == "layerwise"
    assert asked == [("someone/vit", True)]


def test_a_directory_without_preprocessing_says_nothing_of_it(own: Path, tmp_path: Path) -> None:
    assert recognise(own).preprocessing is None
    known = Preprocessing(fit=Fit(size=(32, 32), resize=(40, 40)), mean=(0.5,) * 3, std=(0.5,) * 3)
    for library in ("timm", "transformers"):
        lw.save_pretrained(lw.from_pretrained(own), tmp_path / library, library, preprocessing=known)
        assert recognise(tmp_path / library).preprocessing == known


@pytest.mark.parametrize("name", ["vit-tiny", "resnet-tiny", "efficientnet-tiny", "vgg-tiny"])
def test_features_only_gives_the_pyramid(name: str) -> None:
    network = lw.create_model(name, features_only=True).eval()
    images = torch.randn(2, 3, 64, 64)
    maps = network(images)
    sizes = [(2, c, 64 // s, 64 // s) for c, s in zip(network.pyramid_channels, network.pyramid_strides, strict=True)]
    assert [tuple(value.shape) for value in maps] == sizes


def test_features_only_needs_no_classes_and_a_pyramid() -> None:
    assert lw.create_model("resnet18", features_only=True, in_channels=1).pyramid_strides[-1] == 32
    with pytest.raises(UnsupportedError, match="forward_pyramid"):
        lw.create_model("lenet5", features_only=True, in_channels=1)


def test_options_of_a_bare_file_decide_its_names(tmp_path: Path) -> None:
    """A deeper network than the preset: its last block has a name that the preset's map lacks."""
    options: dict[str, Any] = {"num_layers": 3, "num_classes": 4}
    network = lw.create_model("vit-tiny", **options)
    rules = next(entry for entry in layouts_of(type(network).__module__, "torchvision")).rules(network.config)
    torch.save(to_theirs(rules, network.state_dict()).state, tmp_path / "weights.pth")
    found = lw.from_pretrained(tmp_path / "weights.pth", model="vit-tiny", **options)
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in network.state_dict().items())
