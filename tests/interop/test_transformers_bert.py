"""transformers' text encoders and ours: the same outputs, both ways, with every head."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import layerwise as lw
from layerwise.api.models import load_pretrained
from layerwise.core.errors import CheckpointError, UnsupportedError
from layerwise.interop.layouts import layouts_of
from layerwise.interop.rules import to_ours, to_theirs

transformers = pytest.importorskip("transformers")
SIZES: dict[str, dict[str, Any]] = {
    "Bert": {
        "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 40, "max_position_embeddings": 21,
    },
    "Roberta": {
        "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 40, "max_position_embeddings": 23, "type_vocab_size": 1,
    },
    "DistilBert": {
        "vocab_size": 61, "dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 21,
    },
}  # fmt: skip
ARCHITECTURES = ["Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM"]
CASES = [(kind, end) for kind in SIZES for end in ARCHITECTURES] + [("Bert", "ForPreTraining")]
SHAPES = [(1, 1), (3, 7), (2, 19)]


@pytest.fixture
def made(randomised: Callable[[nn.Module], nn.Module], tmp_path: Path) -> Callable[..., Any]:
    """`made(kind, end, **options)`: a network of transformers, saved in `checkpoint`."""
    transformers.utils.logging.disable_progress_bar()

    def write(kind: str, end: str, **options: Any) -> Any:
        config = getattr(transformers, f"{kind}Config")(
            **SIZES[kind], num_labels=2 if end == "ForQuestionAnswering" else 3, **options
        )
        torch.manual_seed(0)
        network = getattr(transformers, f"{kind}{end}")(config)
        randomised(network).save_pretrained(tmp_path / "checkpoint")
        return network

    return write


def batch(kind: str, shape: tuple[int, int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same texts of several lengths for ours and for theirs."""
    generator = torch.Generator().manual_seed(shape[1])
    lengths = torch.randint(1, shape[1] + 1, (shape[0], 1), generator=generator)
    lengths[0] = shape[1]
    mask = torch.arange(shape[1]) < lengths
    tokens = torch.randint(3, 61, shape, generator=generator)
    tokens = torch.where(mask, tokens, 1 if kind == "Roberta" else 0)
    ours = {"tokens": tokens, "mask": mask}
    theirs = {"input_ids": tokens, "attention_mask": mask.long()}
    if kind == "Bert":
        segments = (torch.arange(shape[1]) >= lengths // 2).long() * mask
        ours["segments"] = theirs["token_type_ids"] = segments
    return ours, theirs


def pairs(ours: Any, theirs: Any, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Outputs that must agree; of tokens, those that there are."""
    if "start_logits" in theirs:
        return [(ours.start[mask], theirs.start_logits[mask]), (ours.end[mask], theirs.end_logits[mask])]
    if "prediction_logits" in theirs:
        return [
            (ours.tokens[mask], theirs.prediction_logits[mask]),
            (ours.next_sentence, theirs.seq_relationship_logits),
        ]
    if "last_hidden_state" in theirs:
        found = [(ours.last_hidden_state[mask], theirs.last_hidden_state[mask])]
        return found + ([(ours.pooled, theirs.pooler_output)] if hasattr(ours, "pooled") else [])
    return [(ours, theirs.logits) if ours.dim() == 2 else (ours[mask], theirs.logits[mask])]


@pytest.mark.parametrize(("kind", "end"), CASES)
@torch.no_grad()
def test_outputs_are_the_same_both_ways(
    kind: str, end: str, made: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    theirs = made(kind, end)
    ours = lw.from_pretrained(tmp_path / "checkpoint")
    lw.save_pretrained(ours, tmp_path / "back", "transformers")
    back, info = type(theirs).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    saved = back.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in theirs.state_dict().items())
    for dtype in (torch.float32, torch.float64):
        for network in (ours, theirs, back.eval()):
            network.to(dtype)
        for shape in SHAPES:
            own, other = batch(kind, shape)
            wanted = theirs(**other)
            for got, value in pairs(ours(**own), wanted, own["mask"]):
                assert_same(got, value, dtype)
            key = next(iter(wanted))
            assert_same(back(**other)[key], wanted[key], dtype)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("head", ["encoder", "embedding", "classifier", "tagger", "span", "masked_lm"])
def test_the_map_is_a_bijection(kind: str, head: str) -> None:
    network = lw.create_model(f"{kind.lower()}-tiny", head=head)
    config: Any = network.config
    (layout,) = layouts_of(type(network).__module__, "transformers")
    state = network.state_dict()
    there = to_theirs(layout.rules(config), state)
    assert not there.unknown
    assert not there.incomplete
    here = to_ours(layout.rules(config), there.state)
    assert not here.unknown
    assert here.state.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in here.state.items())


@pytest.mark.parametrize("kind", SIZES)
def test_a_new_head_on_a_body_and_heads_that_are_not_used(kind: str, made: Callable[..., Any], tmp_path: Path) -> None:
    theirs = made(kind, "ForMaskedLM")
    ours, report = load_pretrained(tmp_path / "checkpoint", head="tagger", num_classes=5)
    report.check(extra=False)
    assert sorted(report.replaced) == ["tagger.bias", "tagger.weight"]
    assert report.unused
    own, other = batch(kind, (2, 5))
    states = theirs(**other, output_hidden_states=True).hidden_states[-1]
    assert torch.allclose(ours.forward_features(**own)[own["mask"]], states[own["mask"]], atol=1e-5)


def test_of_the_same_head_nothing_may_be_missing(made: Callable[..., Any], tmp_path: Path) -> None:
    made("Bert", "Model")
    path = tmp_path / "checkpoint" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["BertForQuestionAnswering"]}))
    with pytest.raises(CheckpointError, match=r"missing span\.weight"):
        lw.from_pretrained(tmp_path / "checkpoint")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parts_and_older_files_load(
    dtype: torch.dtype, made: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    theirs = made("Bert", "ForMaskedLM").to(dtype)
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="10KB")
    assert (tmp_path / "parts" / "model.safetensors.index.json").is_file()
    own, other = batch("Bert", (2, 9))
    ours = lw.from_pretrained(tmp_path / "parts")
    wanted = theirs.float()(**other).logits
    assert_same(ours(**own)[own["mask"]], wanted[own["mask"]])
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_bytes((tmp_path / "parts" / "config.json").read_bytes())
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in theirs.state_dict().items()
    }
    assert "cls.predictions.decoder.weight" in state
    torch.save({**state, "bert.embeddings.position_ids": torch.arange(21)[None]}, old / "pytorch_model.bin")
    assert_same(lw.from_pretrained(old)(**own), ours(**own))


def test_a_language_head_that_is_not_tied_is_refused(made: Callable[..., Any], tmp_path: Path) -> None:
    theirs = made("Bert", "ForMaskedLM")
    state = {name: value.clone() for name, value in theirs.state_dict().items()}
    state["cls.predictions.decoder.weight"] += 1
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "checkpoint" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="share one weight"):
        lw.from_pretrained(tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "silu"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("tie_word_embeddings", False),
        ("pruned_heads", {"0": [1]}),
        ("rope_theta", 10000.0),
        ("architectures", ["BertForMultipleChoice"]),
    ],
)
def test_a_configuration_that_is_not_implemented_is_named(
    key: str, value: Any, made: Callable[..., Any], tmp_path: Path
) -> None:
    made("Bert", "Model")
    path = tmp_path / "checkpoint" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=key):
        lw.from_pretrained(tmp_path / "checkpoint")


def test_other_activations_segments_and_eps_are_read(
    made: Callable[..., Any], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    for act in ("gelu_new", "relu"):
        theirs = made("Bert", "ForMaskedLM", hidden_act=act, layer_norm_eps=1e-3, type_vocab_size=4)
        ours = lw.from_pretrained(tmp_path / "checkpoint")
        own, other = batch("Bert", (2, 9))
        assert_same(ours(**own)[own["mask"]], theirs(**other).logits[own["mask"]])
        lw.save_pretrained(ours, tmp_path / "back", "transformers")
        assert json.loads((tmp_path / "back" / "config.json").read_text())["hidden_act"] == act


def test_class_names_go_both_ways(made: Callable[..., Any], tmp_path: Path) -> None:
    made("Bert", "ForSequenceClassification", id2label={0: "bad", 1: "so", 2: "good"})
    ours = lw.from_pretrained(tmp_path / "checkpoint")
    lw.save_pretrained(ours, tmp_path / "back", "transformers", class_names=["bad", "so", "good"])
    tree = json.loads((tmp_path / "back" / "config.json").read_text())
    assert tree["id2label"] == {"0": "bad", "1": "so", "2": "good"}
    assert tree["architectures"] == ["BertForSequenceClassification"]


def test_what_the_layout_has_no_word_for_is_refused(tmp_path: Path) -> None:
    network = lw.create_model("bert-tiny")
    with pytest.raises(UnsupportedError, match="timm has no map"):
        lw.save_pretrained(network, tmp_path, "timm")
