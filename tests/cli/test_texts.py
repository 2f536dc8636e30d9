"""A person's texts and a directory of transformers: fine-tuned, used, saved back, with no code."""

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Command = Callable[..., Any]
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
GOOD, BAD = ["good", "fine", "lovely", "great"], ["bad", "poor", "awful", "dull"]
REST = [
    "the",
    "film",
    "was",
    "really",
    "very",
    "and",
    "its",
    "story",
    "with",
    "a",
    "cast",
    "of",
    "people",
    "who",
    "play",
]


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """(text, label): one word decides."""
    draw = random.Random(seed)
    made: list[tuple[str, str]] = []
    for i in range(count):
        label, words = ("positive", GOOD) if i % 2 else ("negative", BAD)
        text = draw.choices(REST, k=draw.randint(3, 9))
        text.insert(draw.randrange(len(text) + 1), draw.choice(words))
        made.append((" ".join(text), label))
    return made


def write_csv(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small BERT of transformers with a tokeniser, as it saves itself."""
    from layerwise.data.subword import SubwordTokenizer

    transformers.utils.logging.disable_progress_bar()
    tokenizer = SubwordTokenizer.train([" ".join(REST + GOOD + BAD)] * 3, kind="wordpiece", vocab_size=120)
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size + 7,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(tmp_path / "checkpoint")
    for name, tree in tokenizer.files(40).items():
        (tmp_path / "checkpoint" / name).write_text(json.dumps(tree))
    return tmp_path / "checkpoint"


SHORT = ("task.max_tokens=32", "optimizer.lr=0.003", "epochs=4", "batch_size=8", "precision=fp32")


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_a_csv_and_a_directory_of_transformers(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", sentences(160, 0), ("review", "mood"))
    data = ("data.root=reviews.csv", "data.text=review", "data.label=mood")
    done = layerwise("train", "text_classification", *data, f"init={checkpoint}", *SHORT, "--run", "run")
    assert done.code == 0, done.err
    said = " ".join(done.err.split())
    assert "settings of the recipe text_fine_tuning" in said
    assert "its tokeniser" in said
    assert "New head, not from the checkpoint: classifier.weight" in said
    metrics = json.loads(layerwise("eval", "run", "--json").out)["metrics"]
    assert metrics["test/accuracy"] >= 0.9

    texts = ["a really lovely film", "the story was awful"]
    found = json.loads(layerwise("predict", "run", *texts, "--json").out)
    assert [row["label"] for row in found] == ["positive", "negative"]
    (tmp_path / "new.txt").write_text("\n".join(texts) + "\n")
    again = json.loads(layerwise("predict", "run", "new.txt", "--json").out)
    assert [row["scores"] for row in again] == [row["scores"] for row in found]

    assert layerwise("export", "run", "--format", "transformers", "-o", "back").code == 0
    network = transformers.AutoModelForSequenceClassification.from_pretrained("back").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("back")
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        scores = network(**batch).logits.softmax(1)
    for row, theirs in zip(found, scores, strict=True):
        ours = [row["scores"][network.config.id2label[k]] for k in range(2)]
        assert ours == pytest.approx(theirs.tolist(), abs=1e-5)
    direct = json.loads(layerwise("predict", "back", *texts, "--json").out)
    for row, theirs in zip(direct, found, strict=True):
        assert row["scores"] == pytest.approx(theirs["scores"], abs=1e-5)


def test_it_goes_on_exactly_when_the_checkpoint_has_gone(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", sentences(60, 0), ("text", "label"))
    options = (
        "data.root=reviews.csv",
        f"init={checkpoint}",
        *SHORT,
        "max_steps=9",
        "keep.every_steps=3",
        "keep.last=9",
    )
    assert layerwise("train", "text_classification", *options, "--run", "whole").code == 0
    cut = tmp_path / "cut"  # as a kill after the first save would leave it
    shutil.copytree(tmp_path / "whole", cut)
    for state in sorted((cut / "state").iterdir())[1:]:
        shutil.rmtree(state)
    shutil.rmtree(cut / "model")
    status = json.loads((cut / "status.json").read_text())
    (cut / "status.json").write_text(json.dumps({**status, "status": "running", "step": 3}))
    shutil.rmtree(checkpoint)
    done = layerwise("train", "cut")
    assert done.code == 0, done.err
    assert weights(tmp_path / "whole") == weights(cut)
    assert layerwise("eval", "cut").code == 0
    assert layerwise("predict", "cut", "a good film").code == 0


def test_a_run_is_a_checkpoint_with_its_tokenizer(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", sentences(40, 0), ("text", "label"))
    write_csv(
        tmp_path / "other.csv", [(t, f"class {i % 3}") for i, (t, _) in enumerate(sentences(60, 1))], ("text", "label")
    )
    assert (
        layerwise(
            "train",
            "text_classification",
            "data.root=reviews.csv",
            f"init={checkpoint}",
            *SHORT,
            "max_steps=2",
            "--run",
            "one",
        ).code
        == 0
    )
    done = layerwise(
        "train", "text_classification", "data.root=other.csv", "init=one", *SHORT, "max_steps=2", "--run", "two"
    )
    assert done.code == 0, done.err
    states = [json.loads((tmp_path / run / "model" / "tokenizer.json").read_text()) for run in ("one", "two")]
    assert states[0] == states[1]


def test_pairs_of_texts(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    """Whether two texts have the same mood: neither text alone tells."""
    made = sentences(300, 3)
    rows = []
    for i in range(0, 300, 2):
        for (a, x), (b, y) in (((made[i]), (made[(i + 7) % 300])), ((made[i + 1]), (made[(i + 5) % 300]))):
            rows.append((a, b, "same" if x == y else "other"))
    write_csv(tmp_path / "pairs.csv", rows, ("first", "second", "label"))
    options = ("data.root=pairs.csv", "data.text=first", "data.pair=second", f"init={checkpoint}", *SHORT)
    done = layerwise("train", "text_classification", *options, "max_steps=3", "--run", "run")
    assert done.code == 0, done.err
    found = json.loads(layerwise("predict", "run", "a good film\tthe awful story", "pairs.csv", "--json").out)
    assert len(found) == 1 + len(rows)
    assert layerwise("export", "run", "--format", "transformers", "-o", "back").code == 0
    network = transformers.AutoModelForSequenceClassification.from_pretrained("back").eval()
    batch = transformers.AutoTokenizer.from_pretrained("back")("a good film", "the awful story", return_tensors="pt")
    assert batch["token_type_ids"].sum() == (batch["input_ids"].shape[1] - 5)  # of the second text and what ends it
    with torch.no_grad():
        scores = network(**batch).logits.softmax(1)[0]
    ours = [found[0]["scores"][network.config.id2label[k]] for k in range(2)]
    assert ours == pytest.approx(scores.tolist(), abs=1e-5)
    done = layerwise("predict", "run", "only one text")
    assert done.code == 2
    assert "a tab between them" in done.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("task.max_tokens=64",), "model.max_seq_len=40"),
        (("model=all-MiniLM-L6-v2",), "conflicts with init"),
        (("data.pair=other",), "no column 'other'"),
        (("model.head=tagger",), "model.head=tagger conflicts"),
    ],
)
def test_what_does_not_fit_is_one_plain_error(
    options: tuple[str, ...], word: str, layerwise: Command, checkpoint: Path, tmp_path: Path
) -> None:
    write_csv(tmp_path / "reviews.csv", sentences(40, 0), ("text", "label"))
    done = layerwise(
        "train", "text_classification", "data.root=reviews.csv", f"init={checkpoint}", *SHORT, *options, "--run", "run"
    )
    assert done.code == 2
    assert word in done.err
    assert sum(line.startswith("error:") for line in done.err.splitlines()) == 1


def test_a_tokenizer_can_be_learned_from_the_texts(layerwise: Command, tmp_path: Path) -> None:
    write_csv(tmp_path / "reviews.csv", sentences(60, 0), ("text", "label"))
    for kind in ("wordpiece", "bpe", "unigram"):
        done = layerwise(
            "train",
            "text_classification",
            "model=bert-tiny",
            "data=text_table",
            "data.root=reviews.csv",
            "max_steps=2",
            f"task.tokenizer={kind}",
            "task.vocab_size=300",
            "task.max_tokens=32",
            "--run",
            kind,
        )
        assert done.code == 0, done.err
        assert layerwise("predict", kind, "a good film").code == 0


def test_a_checkpoint_without_the_weights_of_its_head_says_so(layerwise: Command, checkpoint: Path) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": ["BertForMaskedLM"]}))
    done = layerwise("predict", checkpoint, "a text")
    assert done.code == 2
    assert "does not fit" in done.err
    assert "language.norm.weight" in done.err


def tagged(count: int, seed: int) -> str:
    """Sentences in columns: a word after "mr" is a person, the two after "in" are a place."""
    draw = random.Random(seed)
    lines: list[str] = []
    for _ in range(count):
        words = [(w, "O") for w in draw.choices(REST, k=draw.randint(2, 6))]
        if draw.random() < 0.7:
            words += [("mr", "O"), (draw.choice(GOOD), "B-person")]
        if draw.random() < 0.7:
            words += [("in", "O"), (draw.choice(BAD), "B-place"), (draw.choice(REST), "I-place")]
        lines += [f"{word}\t{tag}" for word, tag in words] + [""]
    return "\n".join(lines)


def test_tagged_words_in_columns(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    for name, count in (("train.conll", 300), ("dev.conll", 40), ("test.conll", 40)):
        (folder / name).write_text(tagged(count, count + len(name)))
    done = layerwise("train", "token_tagging", "data.root=names", f"init={checkpoint}", *SHORT, "--run", "run")
    assert done.code == 0, done.err
    metrics = json.loads(layerwise("eval", "run", "--json").out)["metrics"]
    assert metrics["test/f1"] >= 0.9
    (tmp_path / "new.conll").write_text("mr\ngood\n\nin\npoor\nfilm\n")
    (first, *files) = json.loads(layerwise("predict", "run", "the mr fine", "new.conll", "--json").out)
    assert first["words"] == ["the", "mr", "fine"]
    assert first["tags"] == ["O", "O", "B-person"]
    assert [row["entities"][0]["type"] for row in files] == ["person", "place"]
    assert layerwise("export", "run", "--format", "transformers", "-o", "back").code == 0
    network = transformers.AutoModelForTokenClassification.from_pretrained("back").eval()
    batch = transformers.AutoTokenizer.from_pretrained("back")(
        [["the", "mr", "fine"]], is_split_into_words=True, return_tensors="pt"
    )
    with torch.no_grad():
        best = network(**batch).logits[0].argmax(1).tolist()
    words = batch.word_ids(0)
    assert [network.config.id2label[best[words.index(k)]] for k in range(3)] == first["tags"]
    again = json.loads(layerwise("predict", "back", "the mr fine", "--json").out)
    assert again[0]["tags"] == first["tags"]


def asked(count: int, seed: int) -> dict[str, Any]:
    """Questions on passages: what the film was, the word after "was"."""
    draw = random.Random(seed)
    articles = []
    for number in range(count):
        before, after = (" ".join(draw.choices(REST, k=draw.randint(1, 30))) for _ in range(2))
        answer = draw.choice(GOOD + BAD)
        context = f"{before} it {answer} {after}"
        start = len(before) + 4
        answers = [{"text": answer, "answer_start": start}]
        qas = [{"id": str(number), "question": "it was", "answers": answers}]
        articles.append({"title": str(number), "paragraphs": [{"context": context, "qas": qas}]})
    return {"version": "1.1", "data": articles}


def test_questions_on_passages(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    """Passages longer than the network reads at once: 40 positions."""
    (tmp_path / "asked.json").write_text(json.dumps(asked(240, 0)))
    options = ("data.root=asked.json", f"init={checkpoint}", *SHORT, "task.stride=8", "epochs=8")
    done = layerwise("train", "question_answering", *options, "--run", "run")
    assert done.code == 0, done.err
    assert "layerwise predict run $'a question\\tits passage'" in done.err
    metrics = json.loads(layerwise("eval", "run", "--json").out)["metrics"]
    assert metrics["test/f1"] >= 0.7
    assert metrics["test/nearest_sentence_f1"] < 0.4
    passage = "the film with people it lovely and the story"
    (row,) = json.loads(layerwise("predict", "run", f"it was\t{passage}", "--json").out)
    assert row["answer"] == passage[row["start"] : row["start"] + len(row["answer"])]
    assert len(json.loads(layerwise("predict", "run", "asked.json", "--json").out)) == 240
    done = layerwise("predict", "run", "a question alone")
    assert (done.code, "a tab between them" in done.err) == (2, True)
    assert layerwise("export", "run", "--format", "transformers", "-o", "back").code == 0
    again = json.loads(layerwise("predict", "back", f"it was\t{passage}", "--json").out)
    assert again[0]["answer"] == row["answer"]


def test_pairs_that_belong_together_become_embeddings(layerwise: Command, checkpoint: Path, tmp_path: Path) -> None:
    """Of eleven words each has another as its partner: nothing but training tells which."""
    words = [*GOOD, *BAD, *REST][:22]
    draw = random.Random(0)

    def row(number: int) -> tuple[str, str]:
        return f"{words[number]} {words[number]}", f"{words[21 - number]} {words[21 - number]}"

    folder = tmp_path / "pairs"
    folder.mkdir()
    write_csv(folder / "train.csv", [row(draw.randrange(11)) for _ in range(400)], ("question", "answer"))
    for part in ("val", "test"):
        write_csv(folder / f"{part}.csv", [row(number) for number in range(11)], ("question", "answer"))
    options = ("data.root=pairs", "data.text=question", "data.pair=answer", f"init={checkpoint}", *SHORT, "epochs=6")
    done = layerwise("train", "sentence_embedding", *options, "--run", "run")
    assert done.code == 0, done.err
    metrics = json.loads(layerwise("eval", "run", "--json").out)["metrics"]
    assert metrics["test/retrieved"] >= 0.7  # by chance 1/11
    rows = json.loads(layerwise("predict", "run", *row(3), row(4)[1], "--json").out)
    first, partner, other = (torch.tensor(each["embedding"]) for each in rows)
    assert float(first.norm()) == pytest.approx(1, abs=1e-5)
    assert float(first @ partner) > float(first @ other)
    assert layerwise("export", "run", "--format", "transformers", "-o", "back").code == 0
    network = transformers.AutoModel.from_pretrained("back").eval()
    batch = transformers.AutoTokenizer.from_pretrained("back")(row(3)[0], return_tensors="pt")
    with torch.no_grad():
        mean = network(**batch).last_hidden_state[0].mean(0)
    torch.testing.assert_close(first, mean / mean.norm(), atol=1e-5, rtol=1e-5)
    done = layerwise("train", "sentence_embedding", *options, "data.pair=reply", "--run", "other")
    assert (done.code, "reply" in done.err, "question, answer" in done.err) == (2, True, True)


def test_reproduce_takes_a_copy_of_the_checkpoint_only_where_there_is_one(layerwise: Command, checkpoint: Path) -> None:
    done = layerwise("reproduce", "lenet5", "--init", checkpoint)
    assert (done.code, "lenet5 starts from no checkpoint" in done.err) == (2, True)
    done = layerwise("reproduce", "bert_sst", "--init", "nowhere")
    assert (done.code, "nowhere" in done.err) == (2, True)
