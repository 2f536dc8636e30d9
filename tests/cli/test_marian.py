"""A directory of transformers with a translation model and its tokeniser: used, trained further, saved back."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Command = Callable[..., Any]
transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")
# transformers would have a package that it does not use for this.
pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

ENGLISH = ["A dog runs.", "Two cats sleep on a mat.", "A man and a woman walk.", "Dogs play in the snow."]
GERMAN = ["Ein Hund rennt.", "Zwei Katzen schlafen auf einer Matte.", "Ein Mann und eine Frau gehen.", "Für Bären!"]
TEXTS = [*ENGLISH, ">>deu<< A dog sleeps.", "the 猫 plays", "Two men and two cats walk on a mat in the snow."]
LONGEST, BEAMS = 24, 3


def pieces(texts: list[str], path: Path) -> list[str]:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20), model_writer=written, vocab_size=60, hard_vocab_limit=False,
        minloglevel=2, num_threads=1,
    )  # fmt: skip
    path.write_bytes(written.getvalue())
    read = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return [read.id_to_piece(i) for i in range(3, read.get_piece_size())]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Random weights, as transformers saves them with the tokeniser; translations end by themselves."""
    folder = tmp_path / "checkpoint"
    transformers.utils.logging.disable_progress_bar()
    folder.mkdir()
    found = {*pieces(ENGLISH, folder / "source.spm"), *pieces(GERMAN, folder / "target.spm")}
    tokens = ["</s>", "<unk>", ">>deu<<", *sorted(found), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    said = {"source_lang": "eng", "target_lang": "deu", "model_max_length": LONGEST}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    pad = len(tokens) - 1
    config = transformers.MarianConfig(
        vocab_size=len(tokens), d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=LONGEST,
        activation_function="swish", scale_embedding=True, pad_token_id=pad, eos_token_id=0,
        decoder_start_token_id=pad, forced_eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.MarianMTModel(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
        tables = (network.model.encoder.embed_positions, network.model.decoder.embed_positions)
        fresh = transformers.MarianMTModel(config)
        for table, own in zip(
            tables, (fresh.model.encoder.embed_positions, fresh.model.decoder.embed_positions), strict=True
        ):
            table.weight.copy_(own.weight)
        network.final_logits_bias[0, 0] += 1.0
        network.final_logits_bias[0, pad] += 3.0  # what fills up must never be written, likely as it is
    network.generation_config.bad_words_ids = [[pad]]
    network.generation_config.num_beams = BEAMS
    network.generation_config.max_length = LONGEST + 1
    network.save_pretrained(folder)
    return folder


def translated(folder: Path, most: int = LONGEST, **options: Any) -> list[str]:
    """What transformers' own classes make of the texts, of at most so many tokens."""
    network = transformers.MarianMTModel.from_pretrained(folder).eval()
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True, truncation=True, max_length=most)
    made = network.generate(**batch, early_stopping=False, do_sample=False, max_length=most + 1, **options)
    return [tokenizer.decode(row, skip_special_tokens=True, use_source_tokenizer=False) for row in made]


def predicted(layerwise: Command, source: object) -> list[str]:
    done = layerwise("predict", source, *TEXTS, "--json")
    assert done.code == 0, done.err
    return [row["translation"] for row in json.loads(done.out)]


def corpus(folder: Path) -> tuple[str, ...]:
    for name, texts in (("corpus.en", ENGLISH), ("corpus.de", GERMAN)):
        (folder / name).write_text("\n".join(f"{text} {i}" for i, text in enumerate(texts * 10)) + "\n")
    return "data.source=corpus.en", "data.target=corpus.de", "task.max_tokens=20", "task.beams=2", "precision=fp32"


def test_a_directory_translates_as_transformers_does(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    wanted = translated(checkpoint)
    assert len(set(wanted)) > 3
    assert min(map(len, wanted)) < max(map(len, wanted))
    assert predicted(layerwise, checkpoint) == wanted
    assert layerwise("export", checkpoint, "--format", "transformers", "-o", "back").code == 0
    assert translated(tmp_path / "back") == wanted
    assert predicted(layerwise, "back") == wanted
    for name in ("source.spm", "target.spm"):
        assert (tmp_path / "back" / name).read_bytes() == (checkpoint / name).read_bytes()


def test_a_run_goes_on_with_the_tokeniser(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    options = corpus(tmp_path)
    done = layerwise(
        "train",
        "translation_fine_tuning",
        f"init={checkpoint}",
        *options,
        "max_steps=3",
        "batch_size=8",
        "--run",
        "run",
    )
    assert done.code == 0, done.err
    assert "its tokeniser" in " ".join(done.err.split())
    for name in ("source.spm", "target.spm"):
        assert (tmp_path / "run" / "model" / name).read_bytes() == (checkpoint / name).read_bytes()
    shutil.rmtree(checkpoint)
    done = layerwise("eval", "run", "--json")
    assert "test/bleu" in json.loads(done.out)["metrics"], done.err
    assert layerwise("export", "run", "--format", "transformers", "-o", "back").code == 0
    assert predicted(layerwise, "run") == translated(tmp_path / "back", 20, num_beams=2)
    done = layerwise("train", "translation_fine_tuning", "init=run", *options, "max_steps=1", "--run", "next")
    assert done.code == 0, done.err
    assert (tmp_path / "next" / "model" / "vocab.json").read_bytes() == (
        tmp_path / "run" / "model" / "vocab.json"
    ).read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("target.spm", None, 2, "lacks target.spm"),
        ("source.spm", b"broken", 2, "source.spm is damaged"),
        ("vocab.json", None, 2, "lacks vocab.json"),
    ],
)
def test_what_is_wrong_with_the_files_is_one_plain_error(
    name: str, content: bytes | None, code: int, words: str, layerwise: Command, checkpoint: Path
) -> None:
    path = checkpoint / name
    path.unlink() if content is None else path.write_bytes(content)
    done = layerwise("predict", checkpoint, "A dog runs.")
    assert (done.code, words in done.err) == (code, True), done.err


def test_a_directory_without_a_tokeniser_says_what_it_lacks(layerwise: Command, checkpoint: Path) -> None:
    for name in ("source.spm", "target.spm", "vocab.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()
    done = layerwise("predict", checkpoint, "A dog runs.")
    assert (done.code, "source.spm, target.spm, vocab.json" in done.err) == (3, True), done.err
