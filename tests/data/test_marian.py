"""The tokeniser of Marian's translation models against transformers' MarianTokenizer, on SentencePiece models learned
here.
"""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import layerwise as lw
from layerwise.core.errors import CheckpointError, DataError
from layerwise.data.marian import MarianTokenizer, is_marian, load_marian, with_files, without_files
from layerwise.data.tokenizers import tokenizer_from
from layerwise.models.language.transformer import Transformer, TransformerConfig

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")
# transformers would have a package that it does not use for this.
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

ENGLISH = ["A dog runs.", "Two cats sleep on a mat.", "A man and a woman walk.", "Dogs play in the snow, don't they ?"]
GERMAN = ["Ein Hund rennt.", "Zwei Katzen schlafen auf einer Matte.", "Ein Mann und eine Frau gehen.", "Für Bären!"]
TEXTS = [
    *ENGLISH,
    *GERMAN,
    "",
    "   ",
    "  two  blanks and a\ttab \n",
    "unknown: 猫 Ж ☃ 🐶",
    ">>fra<< A dog runs.",
    ">>fra<<A dog runs.",
    ">>xyz<< A dog runs.",
    " >>fra<< not at the beginning",
    "a >>fra<< inside",
    ">> open A dog",
    "<unk> and </s> and <pad> in the text </s>",
    "</s>>>fra<< behind a token",
    "▁ and <s> ½ ﬁne",
]


def model(texts: list[str], size: int, **options: Any) -> bytes:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20), model_writer=written, vocab_size=size, hard_vocab_limit=False,
        minloglevel=2, num_threads=1, **options,
    )  # fmt: skip
    return written.getvalue()


def write(folder: Path, **config: Any) -> Path:
    """A directory as those of opus-mt: numbers of pieces that are not SentencePiece's, a few pieces without one."""
    folder.mkdir(exist_ok=True)
    source, target = model(ENGLISH, 60), model(GERMAN, 64, model_type="bpe")
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    pieces: set[str] = set()
    for raw in (source, target):
        read = sentencepiece.SentencePieceProcessor(model_proto=raw)
        pieces |= {read.id_to_piece(i) for i in range(read.get_piece_size()) if not read.is_control(i)}
    kept = sorted(pieces - {"<unk>", "</s>", "s", "▁A"})
    tokens = ["</s>", "<unk>", ">>fra<<", ">>deu<<", *kept, "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    config = {"source_lang": "eng", "target_lang": "deu", "model_max_length": 512, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("marian") / "checkpoint")


def theirs(folder: Path) -> Any:
    return transformers.MarianTokenizer.from_pretrained(folder)


def assert_equal(ours: MarianTokenizer, wanted: Any) -> None:
    for text in TEXTS:
        found = ours.encode(text)
        assert found.dtype == torch.int64
        assert found.tolist() == wanted(text)["input_ids"], text
        assert ours.encode(text, special=False).tolist() == wanted(text, add_special_tokens=False)["input_ids"], text
        target = wanted(text_target=text)["input_ids"]
        assert ours.encode(text, target=True).tolist() == target, text
        for skip in (True, False):
            shown = wanted.decode(target, skip_special_tokens=skip, use_source_tokenizer=False)
            assert ours.decode(target, special=not skip) == shown, text
            assert ours.decode(torch.tensor(target), special=not skip) == wanted.decode(
                target, skip_special_tokens=skip
            )
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        numbers = torch.randint(0, ours.vocab_size, (12,), generator=generator).tolist()
        assert ours.decode(numbers) == wanted.decode(numbers, skip_special_tokens=True)
        assert ours.decode(numbers, special=True) == wanted.decode(numbers)


def test_numbers_and_texts_are_those_of_transformers(folder: Path) -> None:
    ours, wanted = load_marian(folder), theirs(folder)
    assert_equal(ours, wanted)
    assert ours.vocab_size == len(wanted)
    assert (ours.eos_id, ours.unk_id, ours.pad_id) == (wanted.eos_token_id, wanted.unk_token_id, wanted.pad_token_id)
    assert ours.languages == ["eng", "deu"]
    assert ours.encode("A dog runs.").tolist() != ours.encode("A dog runs.", target=True).tolist()
    assert ours.unk_id in ours.encode("unknown: 猫").tolist()


@pytest.mark.parametrize(
    "config",
    [
        {"clean_up_tokenization_spaces": True},
        {"additional_special_tokens": [">>fra<<"]},
        {
            "added_tokens_decoder": {
                "0": {"content": "</s>", "lstrip": True, "rstrip": True, "special": True},
                "3": {"content": ">>deu<<", "special": False, "normalized": False},
            }
        },
        {"eos_token": {"content": "</s>", "__type": "AddedToken"}, "unk_token": ">>deu<<"},
    ],
)
def test_settings_of_the_files_count(config: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, **config)
    assert_equal(load_marian(tmp_path), theirs(tmp_path))


def test_targets_are_joined_by_their_own_model(tmp_path: Path) -> None:
    """Where the two differ: bytes of characters that only the target's model has."""
    write(tmp_path)
    raw = model(GERMAN, 320, byte_fallback=True)
    read = sentencepiece.SentencePieceProcessor(model_proto=raw)
    (tmp_path / "target.spm").write_bytes(raw)
    pieces = ["</s>", "<unk>", *(read.id_to_piece(i) for i in range(3, read.get_piece_size())), "<pad>"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    ours, wanted = load_marian(tmp_path), theirs(tmp_path)
    numbers = ours.encode("Ein Hund ☃", target=True).tolist()
    assert numbers == wanted(text_target="Ein Hund ☃")["input_ids"]
    assert ours.decode(numbers) == "Ein Hund ☃"
    assert wanted.decode(numbers, skip_special_tokens=True, use_source_tokenizer=False) == "Ein Hund ☃"


def test_it_travels_as_json_and_in_files(folder: Path, tmp_path: Path) -> None:
    ours = load_marian(folder)
    state = json.loads(json.dumps(ours.state()))
    again = tokenizer_from(state)
    assert again.state() == ours.state()
    reference, files = without_files(state)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert "source.spm" not in reference
    assert with_files(reference, tmp_path) == state
    assert is_marian(tmp_path)
    assert_equal(load_marian(tmp_path), theirs(folder))


def test_files_are_written_back_beside_a_network(folder: Path, tmp_path: Path) -> None:
    ours = load_marian(folder)
    sizes: dict[str, Any] = {
        "vocab_size": ours.vocab_size + 3,
        "d_model": 16,
        "num_heads": 2,
        "d_ff": 16,
        "num_encoder_layers": 1,
    }
    network = Transformer(TransformerConfig(**sizes, num_decoder_layers=1, activation="swish", output_bias=True))
    lw.save_pretrained(network, tmp_path, "transformers", tokenizer=ours)
    for name in ("source.spm", "target.spm"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    for name in ("vocab.json", "tokenizer_config.json"):
        before, after = (json.loads((where / name).read_text()) for where in (folder, tmp_path))
        assert {key: after[key] for key in before} == before
    assert_equal(ours, theirs(tmp_path))
    assert isinstance(transformers.AutoTokenizer.from_pretrained(tmp_path), transformers.MarianTokenizer)
    back = transformers.MarianMTModel.from_pretrained(tmp_path)
    for config in (back.config, back.generation_config):
        assert (config.eos_token_id, config.pad_token_id, config.decoder_start_token_id) == (
            0,
            ours.pad_id,
            ours.pad_id,
        )
    assert back.generation_config.bad_words_ids == [[ours.pad_id]]
    assert load_marian(tmp_path).state()["start"] == ours.bos_id


def damage(folder: Path, name: str, content: bytes | None) -> None:
    path = folder / name
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("source.spm", None, "lacks source.spm"),
        ("target.spm", None, "lacks target.spm"),
        ("vocab.json", None, "lacks vocab.json"),
        ("source.spm", b"", "source.spm is damaged"),
        ("target.spm", b"no model at all", "target.spm is damaged"),
        ("vocab.json", b"{", "vocab.json is damaged"),
        ("vocab.json", b"[1]", "vocab.json is damaged"),
        ("vocab.json", b"{}", "vocab.json is damaged"),
        ("vocab.json", b'{"</s>": 0, "<unk>": 1}', "special token '<pad>'"),
        ("vocab.json", b'{"</s>": 0, "<unk>": 0, "<pad>": 1}', "are both 0"),
        ("vocab.json", b'{"</s>": 0, "<unk>": "x", "<pad>": 1}', "'x' in place of a number"),
        ("tokenizer_config.json", b"\xff", "tokenizer_config.json is damaged"),
        ("tokenizer_config.json", b'{"separate_vocabs": true}', "separate_vocabs=True is not implemented"),
        ("tokenizer_config.json", b'{"model_max_length": "x"}', "model_max_length"),
        ("config.json", b'{"decoder_start_token_id": 99999}', "decoder_start_token_id=99999"),
    ],
)
def test_what_is_missing_or_broken_is_named(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    write(tmp_path)
    damage(tmp_path, name, content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_marian(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_numbers_that_are_none_of_its_own_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="not among"):
        load_marian(folder).decode([10_000])
