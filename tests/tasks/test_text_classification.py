"""Texts to model inputs, and texts out of files."""

import json
from pathlib import Path

import pytest
import torch

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.text_table import TextFile
from layerwise.data.texts import TextExamples, pack_texts
from layerwise.models.language.fasttext import FastText, FastTextConfig
from layerwise.tasks.text_classification import TextClassification, TextClassificationConfig, matthews

TEXTS = ["a good film", "bad", "good , good !", "a very very bad film"]


def splits() -> Splits:
    train = TextExamples(TEXTS, {"labels": torch.tensor([1, 0, 1, 0])})
    return Splits(train=train, facts={"num_classes": 2}, class_names=["bad", "good"])


def bound(config: TextClassificationConfig | None = None) -> TextClassification:
    task = TextClassification(config or TextClassificationConfig())
    task.bind(splits())
    return task


def inputs(task: TextClassification, order: list[int]) -> dict[str, torch.Tensor]:
    train = splits().train
    assert train is not None
    return task.inputs(train.collate(torch.tensor(order)))


def test_batches_have_tokens_and_a_mask() -> None:
    task = bound()
    batch = inputs(task, [1, 2])
    assert set(batch) == {"tokens", "mask", "labels", "sample_ids"}
    assert batch["tokens"].dtype == torch.int64
    assert batch["mask"].tolist() == [[True, False, False, False], [True] * 4]
    words = task.tokenizer.decode(batch["tokens"][1])
    assert words == "good , good !"
    assert task.tokenizer.decode(batch["tokens"][0][:1]) == "bad"
    assert batch["labels"].tolist() == [0, 1]


def test_a_sample_has_the_same_tokens_in_every_batch() -> None:
    task = bound()
    alone = inputs(task, [1])
    assert alone["tokens"].shape == (1, 1)
    together = inputs(task, [3, 1])
    assert together["tokens"][1][together["mask"][1]].tolist() == alone["tokens"][0].tolist()


def test_long_texts_are_cut_after_their_first_tokens_and_that_is_said() -> None:
    task = TextClassification(TextClassificationConfig(max_tokens=2))
    data = splits()
    task.bind(data)
    assert data.warnings == ["3 of 4 training texts are longer than task.max_tokens=2: the rest of each is not read."]
    assert task.tokenizer.decode(inputs(task, [0])["tokens"][0]) == "a good"


def test_words_are_learned_from_the_training_part_alone() -> None:
    data = splits()
    data.val = TextExamples(["unheard"], {"labels": torch.tensor([0])})
    task = TextClassification(TextClassificationConfig())
    task.bind(data)
    assert task.facts() == {"vocab_size": 2 + 7, "max_seq_len": 256, "num_classes": 2, "head": "classifier"}
    assert task.inputs(data.val.collate(torch.tensor([0])))["tokens"].tolist() == [[1]]


def test_rare_words_case_and_bytes_are_options() -> None:
    assert bound(TextClassificationConfig(min_count=2)).facts()["vocab_size"] == 2 + 5  # a bad film good very
    task = bound(TextClassificationConfig(tokenizer="bytes"))
    assert task.facts()["vocab_size"] == 256
    assert inputs(task, [1])["tokens"].tolist() == [list(b"bad")]


def test_state_travels_as_json_and_gives_the_same_inputs() -> None:
    for config in (TextClassificationConfig(), TextClassificationConfig(tokenizer="bytes", max_tokens=5)):
        task, other = bound(config), TextClassification(config)
        other.load(json.loads(json.dumps(task.state())))
        assert other.class_names == ["bad", "good"]
        for name, value in inputs(task, [0, 1, 2, 3]).items():
            assert torch.equal(inputs(other, [0, 1, 2, 3])[name], value)


def test_loading_forgets_what_another_tokeniser_made() -> None:
    task, other = bound(), TextClassification(TextClassificationConfig())
    data = splits()
    data.train = TextExamples(["film", "good film", "good good"], {"labels": torch.tensor([0, 1, 1])})
    other.bind(data)
    first = inputs(task, [0])["tokens"].tolist()
    task.load(other.state())
    assert inputs(task, [0])["tokens"].tolist() != first
    assert inputs(task, [0])["tokens"].tolist() == inputs(other, [0])["tokens"].tolist()


def test_data_without_texts_or_labels_is_refused() -> None:
    pictures = Splits(train=TensorExamples({"image": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}))
    with pytest.raises(DataError, match=r"needs texts.*data=text_table"):
        TextClassification(TextClassificationConfig()).bind(pictures)
    with pytest.raises(DataError, match="no column labels"):
        TextClassification(TextClassificationConfig()).bind(Splits(train=TextExamples(["a"], {})))


def test_matthews_correlation_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 5):
        true, guess = (torch.randint(classes, (80,), generator=generator) for _ in range(2))
        guess = torch.where(torch.rand(80, generator=generator) < 0.5, true, guess)
        confusion = torch.bincount(true * classes + guess, minlength=classes**2).view(classes, classes)
        wanted = metrics.matthews_corrcoef(true.numpy(), guess.numpy())
        assert matthews(confusion) == pytest.approx(wanted, abs=1e-12)
    assert matthews(torch.tensor([[3, 0], [2, 0]])) == 0.0


def test_the_report_shows_how_long_the_texts_are(tmp_path: Path) -> None:
    task = bound()
    ((caption, path),) = task.pictures(torch.nn.Identity(), splits(), tmp_path / "pictures")
    assert caption == "Tokens of 4 training texts: half have 4 or fewer, the longest 5."
    assert path.is_file()


# --------------------------------------------------------------------------------------------------------- predictions


def names(task: TextClassification, *given: object) -> list[str]:
    return [name for name, _ in task.decode([str(each) for each in given])]


def words(task: TextClassification, given: object) -> list[str]:
    return [task.tokenizer.decode(task.inputs(batch)["tokens"][0]) for _, batch in task.decode([str(given)])]


def test_a_text_is_itself_and_a_file_gives_one_text_a_line_or_row(tmp_path: Path) -> None:
    task = bound()
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfgood film\r\n\r\nbad\n")
    (tmp_path / "b.csv").write_text('x,text\n1,"good,\nbad"\n2,film\n')
    (tmp_path / "c.jsonl").write_text('{"text": "very good"}\n')
    assert names(task, "good film") == ["good film"]
    assert names(task, tmp_path / "a.txt") == [f"{tmp_path}/a.txt:1", f"{tmp_path}/a.txt:3"]
    assert words(task, tmp_path / "a.txt") == ["good film", "bad"]
    assert words(task, tmp_path / "b.csv") == ["good , bad", "film"]
    assert names(task, tmp_path / "b.csv") == [f"{tmp_path}/b.csv:3", f"{tmp_path}/b.csv:4"]
    assert words(task, tmp_path / "c.jsonl") == ["very good"]


def test_files_are_read_as_the_training_file_was(tmp_path: Path) -> None:
    task = TextClassification(TextClassificationConfig())
    data = splits()
    file = TextFile(text="review", label="stars", columns=("stars", "review"), delimiter=";", encoding="latin-1")
    data.extras["text_file"] = file.to_json()
    task.bind(data)
    other = TextClassification(TextClassificationConfig())
    other.load(json.loads(json.dumps(task.state())))
    (tmp_path / "a.csv").write_bytes("5;good ü\n".encode("latin-1"))
    (tmp_path / "b.csv").write_bytes("good, film\n".encode("latin-1"))  # without the labels
    assert words(other, tmp_path / "a.csv") == ["good <unknown>"]
    assert words(other, tmp_path / "b.csv") == ["good , film"]


def test_inputs_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    task = bound()
    (tmp_path / "a.csv").write_text("words\ngood\n")
    (tmp_path / "b.csv").write_text("text,x\ngood,1\n,2\n")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    (tmp_path / "d.txt").write_text("\n\n")
    for given, message in (
        ("", "The text is empty"),
        ("  ", "The text is empty"),
        ("none.txt", "there is no such file"),
        (tmp_path / "a.csv", "no column 'text'; columns: words"),
        (tmp_path / "b.csv", "b.csv:3"),
        (tmp_path / "c.txt", "not UTF-8"),
        (tmp_path / "d.txt", "is empty"),
    ):
        with pytest.raises(DataError, match=message):
            task.decode([str(given)])
    assert names(task, "see none.txt") == ["see none.txt"]  # a sentence, though it ends like a file's name
    assert names(task, "x" * 5000) == ["x" * 5000]


def test_predictions_are_the_softmax_of_the_logits_whatever_stands_beside() -> None:
    task = bound()
    model = FastText(FastTextConfig(vocab_size=task.facts()["vocab_size"], num_classes=2)).eval()
    one = task.predict(model, task.inputs({"text": pack_texts(["good film"])}))
    two = task.predict(model, task.inputs({"text": pack_texts(["a very very bad film", "good film"])}))
    assert two[1]["scores"] == pytest.approx(one[0]["scores"], abs=1e-6)
    assert sum(one[0]["scores"].values()) == pytest.approx(1.0)
    assert one[0]["label"] == max(one[0]["scores"], key=one[0]["scores"].get)
