"""Translation: model inputs, metrics against sacreBLEU on known texts, prediction, what travels with the weights."""

import json
from pathlib import Path

import pytest
import sacrebleu
import torch

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.text_pairs import TextPairs
from layerwise.models.language.transformer import Transformer, TransformerConfig
from layerwise.tasks.translation import Translation, TranslationConfig

SOURCES = ["A dog runs.", "Two cats sleep on a mat.", "A man and a woman walk.", "Dogs play."] * 5
TARGETS = [
    "Ein Hund rennt.",
    "Zwei Katzen schlafen auf einer Matte.",
    "Ein Mann und eine Frau gehen.",
    "Hunde spielen.",
]


def splits(**parts: TextPairs) -> Splits:
    return Splits(train=TextPairs(SOURCES, TARGETS * 5), extras={"languages": ["en", "de"]}, **parts)


def bound(**options: object) -> Translation:
    task = Translation(TranslationConfig(**{"vocab_size": 300, "max_tokens": 40, "beams": 2, **options}))
    task.bind(splits())
    return task


def network(task: Translation) -> Transformer:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_encoder_layers": 1, "num_decoder_layers": 1, "num_heads": 2, "d_ff": 16}
    return Transformer(TransformerConfig(**sizes, **task.facts(), max_seq_len=40)).eval()


def test_inputs_are_the_source_and_the_target_behind_a_start_token() -> None:
    task = bound()
    batch = task.inputs(TextPairs(["Dogs play.", "A dog runs."], ["Hunde spielen.", "Ja."]).collate(torch.arange(2)))
    tokenizer = task.subwords
    for row, (source, target) in enumerate([("Dogs play.", "Hunde spielen."), ("A dog runs.", "Ja.")]):
        there = batch["source"][row][batch["source_mask"][row]].tolist()
        assert there[-1] == tokenizer.eos_id
        assert tokenizer.decode(there) == source
        labels = batch["labels"][row][batch["labels"][row] != -100].tolist()
        assert tokenizer.decode(labels) == target
        assert labels[-1] == tokenizer.eos_id
        assert batch["tokens"][row, : len(labels)].tolist() == [tokenizer.bos_id, *labels[:-1]]
    assert batch["tokens"].shape == batch["labels"].shape
    assert bool((batch["tokens"] >= 0).all())


def test_long_texts_are_cut_with_their_end_token() -> None:
    task = bound(max_tokens=5)
    batch = task.inputs(splits().train.collate(torch.tensor([1])))  # pyright: ignore[reportOptionalMemberAccess]
    assert batch["source"].shape == (1, 5)
    assert batch["source"][0, -1] == task.subwords.eos_id


def test_texts_that_are_cut_are_counted() -> None:
    task, data = Translation(TranslationConfig(vocab_size=300, max_tokens=5)), splits()
    task.bind(data)
    assert "training texts have more than task.max_tokens=5 tokens" in data.warnings[0]


def test_lengths_are_tokens_of_both_sides() -> None:
    task = bound()
    data = splits().train
    assert data is not None
    lengths = task.lengths(data)
    batch = task.inputs(data.collate(torch.arange(4)))
    assert lengths[:4].tolist() == (batch["source_mask"].sum(1) + (batch["labels"] != -100).sum(1)).tolist()


def test_metrics_are_sacrebleu_s(monkeypatch: pytest.MonkeyPatch) -> None:
    task = bound()
    written = ["Ein Hund rennt.", "Zwei Katzen schlafen auf der Matte.", "Ein Mann und eine Frau laufen.", "Hunde."]
    monkeypatch.setattr(task, "translate", lambda network, batch: [written[i] for i in batch["sample_ids"].tolist()])
    examples = TextPairs(SOURCES[:4], TARGETS)
    whole, halves, net = task.accumulator(), [task.accumulator(), task.accumulator()], network(task)
    with torch.no_grad():
        whole.update(net, task.inputs(examples.collate(torch.arange(4))))
        halves[0].update(net, task.inputs(examples.collate(torch.tensor([0, 2]))))
        halves[1].update(net, task.inputs(examples.collate(torch.tensor([1, 3]))))
    found = whole.compute()
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, [TARGETS]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, [TARGETS]).score)
    merged = task.accumulator()
    merged.merge([halves[0].state(), halves[1].state()])
    assert merged.compute() == pytest.approx(found, rel=1e-5)
    assert merged.table() == whole.table()
    assert whole.table()["translations"][1] == {
        "sample_id": 1,
        "source": SOURCES[1],
        "reference": TARGETS[1],
        "translation": written[1],
    }


def test_loss_is_that_of_the_targets_alone() -> None:
    """A sentence beside a longer one: its loss does not count what fills it up (float32, 1e-5)."""
    task = bound()
    net, examples = network(task), TextPairs(SOURCES[:2], TARGETS[:2])
    together, apart = task.accumulator(), task.accumulator()
    with torch.no_grad():
        together.update(net, task.inputs(examples.collate(torch.arange(2))))
        for i in range(2):
            apart.update(net, task.inputs(examples.collate(torch.tensor([i]))))
    assert together.compute()["loss"] == pytest.approx(apart.compute()["loss"], rel=1e-5)


def test_prediction_gives_a_translation_and_its_rivals(tmp_path: Path) -> None:
    task = bound()
    (tmp_path / "lines.txt").write_text("A dog runs.\n\nDogs play.\n")
    decoded = task.decode(["A dog runs.", str(tmp_path / "lines.txt")])
    assert [name for name, _ in decoded] == ["A dog runs.", f"{tmp_path}/lines.txt:1", f"{tmp_path}/lines.txt:3"]
    rows = [task.predict(network(task), task.inputs(raw))[0] for _, raw in decoded]
    assert rows[0] == rows[1]
    for row in rows:
        assert row["translation"] == next(iter(row["scores"]))
        assert list(row["scores"].values()) == sorted(row["scores"].values(), reverse=True)


def test_state_travels_as_json() -> None:
    task, other = bound(), Translation(TranslationConfig(beams=2))
    other.load(json.loads(json.dumps(task.state())))
    batch = splits().train.collate(torch.arange(3))  # pyright: ignore[reportOptionalMemberAccess]
    assert torch.equal(other.inputs(batch)["source"], task.inputs(batch)["source"])
    assert other.languages == ["en", "de"]
    assert other.facts() == task.facts()


def test_data_without_pairs_is_refused() -> None:
    with pytest.raises(DataError, match="needs pairs of texts"):
        bound().bind(Splits(train=TensorExamples({"features": torch.zeros(3, 2)})))


def test_report_shows_where_a_translation_looks(tmp_path: Path) -> None:
    task = bound()
    made = task.pictures(network(task), splits(), tmp_path)
    assert len(made) == 3
    for caption, path in made:
        assert "looks" in caption
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
