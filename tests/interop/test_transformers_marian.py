"""transformers' MarianMTModel, both ways, against transformers: networks, greedy and beam search."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import layerwise as lw
from layerwise.core.errors import CheckpointError, UnsupportedError
from layerwise.models.language.transformer import Transformer, TransformerConfig
from layerwise.nn.beam_search import BeamSearch, beam_search

EOS, PAD = 0, 59
SIZES: dict[str, Any] = {
    "vocab_size": 60, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32,
    "activation_function": "swish", "scale_embedding": True, "pad_token_id": PAD, "eos_token_id": EOS,
    "decoder_start_token_id": PAD, "forced_eos_token_id": None,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "opus": SIZES,
    "uneven": {**SIZES, "encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 4,
               "decoder_attention_heads": 4, "activation_function": "relu", "encoder_ffn_dim": 40,
               "decoder_ffn_dim": 40},
    "gelu": {**SIZES, "activation_function": "gelu", "vocab_size": 61, "max_position_embeddings": 20},
}  # fmt: skip


@pytest.fixture
def save(randomised: Callable[[nn.Module], nn.Module], tmp_path: Path) -> Callable[..., Any]:
    """`save(options)`: a model of transformers in `checkpoint`, as it saves itself; its logits have a random bias."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()

    def write(options: dict[str, Any]) -> Any:
        network: Any = transformers.MarianMTModel(transformers.MarianConfig(**options))
        tables = [network.model.encoder.embed_positions.weight, network.model.decoder.embed_positions.weight]
        sines = [table.detach().clone() for table in tables]
        randomised(network)
        with torch.no_grad():
            for table, own in zip(tables, sines, strict=True):
                table.copy_(own)
            network.final_logits_bias.normal_(generator=torch.Generator().manual_seed(2))
        network.save_pretrained(tmp_path / "checkpoint")
        return network.eval()

    return write


def sentences(vocabulary: int = 59) -> tuple[Tensor, Tensor]:
    """Sources of one to eleven tokens and where they have any."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(11) < torch.tensor([[11], [4], [1], [7], [10]])
    return torch.randint(1, vocabulary, (5, 11), generator=generator).masked_fill(~mask, PAD), mask


@pytest.mark.parametrize("case", CASES)
def test_models_load_and_are_saved_back(
    case: str, save: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    theirs = save(CASES[case])
    source, mask = sentences()
    tokens = torch.randint(0, 59, (5, 7), generator=torch.Generator().manual_seed(3))
    given = {"input_ids": source, "attention_mask": mask.long(), "decoder_input_ids": tokens}
    with torch.no_grad():
        ours = lw.from_pretrained(tmp_path / "checkpoint")
        wanted = theirs(**given)
        assert_same(ours(source, tokens, mask), wanted.logits)
        assert_same(ours.encode(source, mask)[mask], wanted.encoder_last_hidden_state[mask])
        lw.save_pretrained(ours, tmp_path / "back", "transformers")
        back = type(theirs).from_pretrained(tmp_path / "back").eval()
        assert torch.equal(back(**given).logits, wanted.logits)
        assert_same(ours.double()(source, tokens, mask), theirs.double()(**given).logits, torch.float64)


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("penalty", [1.0, 0.6])
def test_search_finds_what_transformers_generate_finds(
    beams: int, penalty: float, save: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    """Float64; sentences of all lengths in one batch, and translations that end and that do not."""
    theirs = save(SIZES).double()
    with torch.no_grad():
        theirs.final_logits_bias[0, EOS] += 4.5
    ours = lw.from_pretrained(tmp_path / "checkpoint").double()
    with torch.no_grad():
        ours.final_logits_bias.copy_(theirs.final_logits_bias)
    source, mask = sentences()
    made = theirs.generate(
        source, attention_mask=mask.long(), num_beams=beams, max_length=16, length_penalty=penalty, do_sample=False,
        num_return_sequences=beams, early_stopping=False, return_dict_in_generate=True, output_scores=True,
        bad_words_ids=None,
    )  # fmt: skip
    search = BeamSearch(start_token=PAD, stop_token=EOS, beams=beams, max_new_tokens=15, length_penalty=penalty)
    found = beam_search(ours, source, mask, search)
    texts = [h.tokens.tolist() for each in found for h in each]
    wanted = [_until(row[1:].tolist()) for row in made.sequences]
    assert texts == wanted
    if beams > 1:
        scores = torch.tensor([h.score for each in found for h in each])
        torch.testing.assert_close(scores, made.sequences_scores.to(scores), rtol=1e-6, atol=1e-6)
    assert min(map(len, texts)) < 15  # some come to their end


def _until(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(EOS) + 1] if EOS in tokens else tokens


def test_files_with_every_name_of_the_shared_table_load(save: Callable[..., Any], tmp_path: Path) -> None:
    """As older files have them: embeddings under each of their names, and positions."""
    theirs = save(SIZES)
    path = tmp_path / "checkpoint" / "model.safetensors"
    state = load_file(path)
    shared = next(value for name, value in state.items() if name.endswith("shared.weight"))
    for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"):
        state[name] = shared.clone()
    state["model.encoder.embed_positions.weight"] = theirs.model.encoder.embed_positions.weight.detach().clone()
    save_file(state, path)
    source, mask = sentences()
    with torch.no_grad():
        got = lw.from_pretrained(tmp_path / "checkpoint")(source, source, mask)
        wanted = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=source).logits
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale_embedding", False),
        ("normalize_before", True),
        ("static_position_embeddings", False),
        ("share_encoder_decoder_embeddings", False),
        ("tie_word_embeddings", False),
        ("activation_function", "gelu_new"),
        ("decoder_ffn_dim", 32),
        ("decoder_attention_heads", 4),
        ("something_new", 3),
    ],
)
def test_values_that_change_the_function_are_refused_by_name(
    key: str, value: object, save: Callable[..., Any], tmp_path: Path
) -> None:
    save(SIZES)
    path = tmp_path / "checkpoint" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=key):
        lw.from_pretrained(tmp_path / "checkpoint")


def test_every_tensor_of_ours_has_one_of_theirs(save: Callable[..., Any], tmp_path: Path) -> None:
    theirs = save(SIZES)
    ours = lw.from_pretrained(tmp_path / "checkpoint")
    lw.save_pretrained(ours, tmp_path / "back", "transformers")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("checkpoint", "back"))
    assert {n: v.shape for n, v in first.items()} == {n: v.shape for n, v in second.items()}
    assert sum(v.numel() for v in second.values()) == sum(v.numel() for v in ours.state_dict().values())
    assert sum(p.numel() for p in ours.parameters()) == sum(
        p.numel() for n, p in theirs.named_parameters() if "embed_positions" not in n
    )


def test_a_model_without_a_bias_gets_one_of_zeros(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ours = Transformer(TransformerConfig(vocab_size=60, d_model=16, num_heads=2, d_ff=24, num_encoder_layers=1)).eval()
    lw.save_pretrained(ours, tmp_path / "back", "transformers")
    back = transformers.MarianMTModel.from_pretrained(tmp_path / "back").eval()
    source, mask = sentences()
    with torch.no_grad():
        wanted = ours(source, source, mask)
        got = back(input_ids=source, attention_mask=mask.long(), decoder_input_ids=source).logits
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(lw.from_pretrained(tmp_path / "back")(source, source, mask), wanted)


def test_pre_norm_cannot_be_said(tmp_path: Path) -> None:
    ours = Transformer(TransformerConfig(vocab_size=60, d_model=16, num_heads=2, d_ff=24, norm="pre"))
    with pytest.raises(UnsupportedError, match="norm='pre'"):
        lw.save_pretrained(ours, tmp_path / "back", "transformers")
