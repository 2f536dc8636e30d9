"""transformers' CLIP text encoder, both ways, against transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import layerwise as lw
from layerwise.core.errors import CheckpointError

SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 12,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "sd1": {**SIZES, "eos_token_id": 2},
    "sd2": {**SIZES, "eos_token_id": 2, "hidden_act": "gelu", "intermediate_size": 24, "num_attention_heads": 4},
    "end-token": {**SIZES, "eos_token_id": 41, "layer_norm_eps": 1e-3},
}


@pytest.fixture
def save(randomised: Callable[[nn.Module], nn.Module], tmp_path: Path) -> Callable[..., Any]:
    """`save(options)`: an encoder of transformers in `checkpoint`, as it saves itself."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()

    def write(options: dict[str, Any]) -> Any:
        network: Any = randomised(transformers.CLIPTextModel(transformers.CLIPTextConfig(**options)))
        network.save_pretrained(tmp_path / "checkpoint")
        return network

    return write


def _joined(last: Tensor, pooled: Tensor) -> Tensor:
    return torch.cat([last.flatten(), pooled.flatten()])


@pytest.mark.parametrize("case", CASES)
def test_text_encoders_load_and_are_saved_back(
    case: str, save: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    theirs = save(CASES[case])
    tokens = torch.randint(1, 40, (3, 9), generator=torch.Generator().manual_seed(1))
    tokens[0, 3], tokens[1, 8], tokens[2, 1], tokens[2, 5] = 41, 41, 41, 41
    with torch.no_grad():
        ours = lw.from_pretrained(tmp_path / "checkpoint")
        wanted = _joined(theirs(tokens).last_hidden_state, theirs(tokens).pooler_output)
        assert_same(_joined(*ours(tokens)), wanted)
        lw.save_pretrained(ours, tmp_path / "back", "transformers")
        back = type(theirs).from_pretrained(tmp_path / "back").eval()
        assert torch.equal(back(tokens).last_hidden_state, theirs(tokens).last_hidden_state)
        assert torch.equal(back(tokens).pooler_output, theirs(tokens).pooler_output)
        twin = theirs.double()(tokens)
        assert_same(_joined(*ours.double()(tokens)), _joined(twin.last_hidden_state, twin.pooler_output), torch.float64)


@pytest.mark.parametrize("prefixed", [False, True])
def test_names_with_and_without_their_first_part_load(prefixed: bool, save: Callable[..., Any], tmp_path: Path) -> None:
    theirs = save(CASES["sd1"])
    path = tmp_path / "checkpoint" / "model.safetensors"
    state = {name.removeprefix("text_model."): value for name, value in load_file(path).items()}
    if prefixed:  # as files were for years, positions included
        state = {f"text_model.{name}": value for name, value in state.items()}
        state["text_model.embeddings.position_ids"] = torch.arange(12)[None]
    save_file(state, path)
    tokens = torch.randint(1, 60, (2, 12))
    found = lw.from_pretrained(tmp_path / "checkpoint")(tokens).last_hidden_state
    torch.testing.assert_close(found, theirs(tokens).last_hidden_state, rtol=1e-4, atol=1e-5)


def test_an_encoder_with_a_projection_is_refused(randomised: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    network = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**SIZES, eos_token_id=2))
    randomised(network).save_pretrained(tmp_path / "checkpoint")  # pyright: ignore[reportCallIssue]
    with pytest.raises(CheckpointError, match="text_projection"):
        lw.from_pretrained(tmp_path / "checkpoint")
