"""A person's corpus, in files of their own, trains a GPT that writes on, with no code."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
pytest.importorskip("tokenizers")
SHORT = (
    "model.d_model=16",
    "model.num_layers=1",
    "model.num_heads=2",
    "task.vocab_size=300",
    "task.seq_len=32",
    "batch_size=4",
    "precision=fp32",
)


def stories(count: int = 60, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    names, verbs, things = ["Ada", "Ben", "Cleo"], ["saw", "took", "lost"], ["a cat", "the key", "her hat"]
    made: list[str] = []
    for _ in range(count):
        sentences = [
            f"{draw.choice(names)} {draw.choice(verbs)} {draw.choice(things)}." for _ in range(draw.randint(1, 9))
        ]
        made.append(" ".join(sentences))
    return made


def write_corpus(kind: str, path: Path) -> Path:
    texts = stories()
    if kind == "txt":
        path.mkdir()
        for number, text in enumerate(texts):
            (path / f"{number:03}.txt").write_text(text)
        return path
    if kind == "jsonl":
        (path := path.with_suffix(".jsonl")).write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    elif kind == "csv":
        (path := path.with_suffix(".csv")).write_text(
            "id,body\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts))
        )
    elif kind == "parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.table({"body": texts}), path := path.with_suffix(".parquet"))
    else:
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        datasets.Dataset.from_dict({"body": texts}).save_to_disk(path)
    return path


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet", "saved"])
def test_a_corpus_in_any_format_trains_a_gpt(kind: str, layerwise: Command, tmp_path: Path) -> None:
    root = write_corpus(kind, tmp_path / "mine")
    column = () if kind == "txt" else ("data.text=body",)
    done = layerwise("train", "gpt_text", f"data.root={root}", *column, *SHORT, "max_steps=3", "--run", "run")
    assert done.code == 0, done.err
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert min(data[part]["examples"] for part in ("train", "val", "test")) > 0
    metrics = json.loads(layerwise("eval", "run", "--json").out)["metrics"]
    assert set(metrics) == {"test/loss", "test/perplexity", "test/bits_per_subword"}


def test_it_learns_writes_on_and_predicts(layerwise: Command, tmp_path: Path) -> None:
    write_corpus("jsonl", tmp_path / "mine")
    options = ("data.root=mine.jsonl", "data.text=body", *SHORT, "model.d_model=32", "task.seq_len=64", "epochs=60")
    assert layerwise("train", "gpt_text", *options, "--run", "run").code == 0
    # The names, verbs and things are drawn with three choices a sentence; all else is certain. Three choices of three
    # in about seven tokens a sentence are 3 ln 3 / 7 = 0.47 nats a token.
    assert json.loads(layerwise("eval", "run", "--json").out)["metrics"]["test/loss"] < 1.2
    texts = [row["text"] for row in json.loads(layerwise("generate", "run", "-n", "4", "--seed", "1", "--json").out)]
    assert sum(text.startswith(("Ada ", "Ben ", "Cleo ")) for text in texts) >= 3
    assert all(len(text) < 1_000 for text in texts)  # the end of a text was learned
    (row,) = json.loads(layerwise("predict", "run", "Ada saw a cat. Ben", "--json").out)
    assert row["label"] in (" saw", " took", " lost")


def test_packing_goes_on_exactly_from_a_corpus_on_disk(layerwise: Command, tmp_path: Path) -> None:
    write_corpus("jsonl", tmp_path / "mine")
    data = ("data.root=mine.jsonl", "data.text=body", "data.cache=cache")
    options = (*data, *SHORT, "epochs=2", "max_steps=9", "keep.every_steps=3", "keep.last=9")
    done = layerwise("train", "gpt_text", *options, "--run", "whole")
    assert done.code == 0, done.err
    assert (tmp_path / "cache" / "texts").is_dir()
    assert (tmp_path / "cache" / "tokens").is_dir()
    cut = tmp_path / "cut"  # as a kill after the first save would leave it
    shutil.copytree(tmp_path / "whole", cut)
    for state in sorted((cut / "state").iterdir())[1:]:
        shutil.rmtree(state)
    shutil.rmtree(cut / "model")
    status = json.loads((cut / "status.json").read_text())
    (cut / "status.json").write_text(json.dumps({**status, "status": "running", "step": 3}))
    shutil.rmtree(tmp_path / "cache")  # it is made again, the same
    done = layerwise("train", "cut")
    assert done.code == 0, done.err
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (tmp_path / "whole", cut)]
    assert weights[0] == weights[1]


def test_a_run_is_trained_further_with_its_tokeniser(layerwise: Command, tmp_path: Path) -> None:
    write_corpus("jsonl", tmp_path / "mine")
    data = ("data.root=mine.jsonl", "data.text=body")
    assert layerwise("train", "gpt_text", *data, *SHORT, "max_steps=2", "--run", "one").code == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "text.txt").write_text("Quite another text. " * 200)
    done = layerwise(
        "train",
        "gpt_text",
        "data.root=other",
        "init=one",
        "task.seq_len=32",
        "max_steps=2",
        "batch_size=4",
        "--run",
        "two",
    )
    assert done.code == 0, done.err
    states = [json.loads((tmp_path / run / "model" / "tokenizer.json").read_text()) for run in ("one", "two")]
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', (), ("a.jsonl", "line 2", "0xff", "data.encoding")),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', (), ("a.jsonl, line 2", "not JSON")),
        ("a.jsonl", b'{"body": "a"}\n', (), ("a.jsonl", "no column 'text'", "body", "data.text=NAME")),
        ("a.csv", b"id,txt\n1,a\n", (), ("a.csv", "no column 'text'", "id, txt")),
        ("a.txt", b"", (), ("a.txt", "the file is empty")),
        ("a.txt", b"word " * 9, ("task.packed=false",), ("The train text is too short", "task.seq_len")),
        ("a.txt", b"word " * 9000, ("task.stride=1",), ("task.stride=1", "task.packed")),
        ("a.txt", b"word " * 9000, ("task.tokenizer=nowhere",), ("task.tokenizer=nowhere", "chars", "bpe")),
        ("a.txt", b"word " * 9000, ("model=gpt2-tiny", "model.max_seq_len=16"), ("task.seq_len",)),
    ],
)
def test_what_cannot_be_used_is_one_plain_error(
    name: str, content: bytes, options: tuple[str, ...], words: tuple[str, ...], layerwise: Command, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    done = layerwise("train", "gpt_text", f"data.root={name}", "max_steps=1", *options, "--run", "run")
    assert done.code == 2, done.err
    assert sum(line.startswith("error:") for line in done.err.splitlines()) == 1
    said = " ".join(done.err.split())
    assert all(word in said for word in words), said


def test_packing_needs_a_network_that_keeps_documents_apart(
    layerwise: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mixing_nets.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Embedding):\n"
        "    def __init__(self):\n        super().__init__(300, 300)\n\n"
        "    def forward(self, tokens):\n        return super().forward(tokens)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    write_corpus("jsonl", tmp_path / "mine")
    data = ("data.root=mine.jsonl", "data.text=body", "task.vocab_size=300", "max_steps=2", "model=mixing_nets:Net")
    done = layerwise("train", "gpt_text", *data, "--run", "run")
    assert (done.code, "task.packed=true" in done.err, "`documents`" in done.err) == (2, True, True)
    done = layerwise("train", "gpt_text", *data, "task.packed=false", "optimizer=AdamW", "--run", "other")
    assert done.code == 0, done.err


def test_a_wikipedia_dump_trains_a_gpt(layerwise: Command, tmp_path: Path) -> None:
    pages = "".join(
        f"<page><title>T{i}</title><ns>0</ns><revision><text>'''{text}''' [[Ada]]</text></revision></page>"
        for i, text in enumerate(stories())
    )
    (tmp_path / "dump.xml").write_text(f"<mediawiki>{pages}</mediawiki>")
    done = layerwise(
        "train", "gpt_text", "data=wikipedia_dump", "data.root=dump.xml", *SHORT, "max_steps=2", "--run", "run"
    )
    assert done.code == 0, done.err
