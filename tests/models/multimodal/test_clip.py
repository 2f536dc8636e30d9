"""CLIP's text encoder: published sizes, the end token. Parity: tests/interop/test_transformers_clip.py."""

import pytest
import torch

import layerwise as lw
from layerwise.core.errors import ConfigError
from layerwise.models.multimodal.clip import PRESETS, CLIPText, CLIPTextConfig


@pytest.mark.parametrize(("name", "count"), [("clip-text-l-14", 123_060_480), ("clip-text-h-14", 340_387_840)])
def test_size_is_that_of_the_published_checkpoints(name: str, count: int) -> None:
    """The `text_encoder` folders of Stable Diffusion 1 and 2."""
    with torch.device("meta"):
        network = lw.create_model(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize(("end_token", "place"), [(None, 3), (7, 1)])
def test_the_pooled_features_are_those_of_the_end_token(end_token: int | None, place: int) -> None:
    net = CLIPText(CLIPTextConfig(**{**vars(PRESETS["clip-text-tiny"]), "end_token": end_token}))
    found = net(torch.tensor([[3, 7, 2, 39, 7]]))
    assert torch.equal(found.pooled, found.last_hidden_state[:, place])


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ConfigError, match="9 tokens"):
        CLIPText(PRESETS["clip-text-tiny"])(torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(ConfigError, match="num_heads=5"):
        CLIPTextConfig(num_heads=5)
