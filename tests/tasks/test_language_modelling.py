"""Losses, perplexity and predictions of a known distribution."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Splits, Subset, TensorExamples
from layerwise.data.feed import in_streams
from layerwise.data.packing import PackedDocuments
from layerwise.data.splits import load
from layerwise.data.text_store import TextStore
from layerwise.data.texts import TextExamples
from layerwise.data.token_store import StoredWindows
from layerwise.data.token_windows import TokenWindows
from layerwise.data.tokenizers import ByteTokenizer, CharTokenizer, SpacedTokenizer
from layerwise.models.language.rnn import RNN, RNNConfig
from layerwise.objectives.autoregressive import AutoregressiveConfig
from layerwise.objectives.truncated_bptt import TruncatedBPTTConfig
from layerwise.tasks.language_modelling import LanguageMetrics, LanguageModelling, LanguageModellingConfig

ALPHABET = "\nab"


class Bigram(nn.Module):
    """p(next | current) from a fixed table, rows sum to one."""

    def __init__(self, rows: list[list[float]], max_seq_len: int = 100) -> None:
        super().__init__()
        self.log_p = nn.Parameter(torch.tensor(rows, dtype=torch.float64).log())
        self.max_seq_len = max_seq_len
        self.lengths: list[int] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.lengths.append(tokens.shape[1])
        assert tokens.shape[1] <= self.max_seq_len
        return self.log_p[tokens]


TABLE = [[0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [0.7, 0.05, 0.25]]  # of "\n", "a", "b"


def bound(alphabet: str = ALPHABET) -> LanguageModelling:
    task = LanguageModelling(LanguageModellingConfig(shown_tokens=2))
    task.load({"tokenizer": CharTokenizer(alphabet).state()})
    return task


def nll(text: str) -> float:
    return -sum(math.log(TABLE[ALPHABET.index(x)][ALPHABET.index(y)]) for x, y in itertools.pairwise(text))


def windows(texts: list[str]) -> dict[str, Tensor]:
    tokens = torch.stack([CharTokenizer(ALPHABET).encode(text) for text in texts])
    return {"tokens": tokens[:, :-1], "labels": tokens[:, 1:].clone(), "sample_ids": torch.arange(len(texts))}


def test_metrics_are_means_over_targets() -> None:
    metrics, network = bound().accumulator(), Bigram(TABLE)
    first, second = windows(["aab\n", "bbba"]), windows(["ab\na"])
    first["labels"][1, 1:] = -100
    with torch.no_grad():
        metrics.update(network, first)
        metrics.update(network, second)
    loss = (nll("aab\n") + nll("bb") + nll("ab\na")) / 7
    found = metrics.compute()
    assert found == pytest.approx({"loss": loss, "perplexity": math.exp(loss), "bits_per_char": loss / math.log(2)})
    assert metrics.table()["count"] == 7


def test_bytes_are_named_as_the_unit() -> None:
    metrics = LanguageMetrics(ByteTokenizer())
    with torch.no_grad():
        metrics.update(Bigram(TABLE), windows(["aab\n"]))
    assert set(metrics.compute()) == {"loss", "perplexity", "bits_per_byte"}


def test_no_targets_give_no_metrics() -> None:
    assert bound().accumulator().compute() == {}
    assert bound().accumulator().table() == {"hardest_texts": [], "count": 0}


def test_merged_parts_equal_the_whole() -> None:
    texts = ["".join(ALPHABET[(i * k + k) % 3] for i in range(6)) for k in range(1, 21)]
    batch, network = windows(texts), Bigram(TABLE)
    whole, parts = bound().accumulator(), [bound().accumulator() for _ in range(3)]
    with torch.no_grad():
        whole.update(network, batch)
        for rank, part in enumerate(parts[:2]):
            part.update(network, {name: value[rank::2] for name, value in batch.items()})
    merged = bound().accumulator()
    merged.merge([part.state() for part in parts])  # the third process had no windows
    assert merged.compute() == pytest.approx(whole.compute())
    assert merged.table() == whole.table()


def test_hardest_texts_are_told_with_their_loss() -> None:
    metrics = bound().accumulator()
    batch = windows(["aaaa", "baba", "bbbb"])
    batch["labels"][1, 2:] = -100
    with torch.no_grad():
        metrics.update(Bigram(TABLE), batch)
    rows = metrics.table()["hardest_texts"]
    assert [row["text"] for row in rows] == ["bab", "bbbb", "aaaa"]
    assert [row["loss"] for row in rows] == pytest.approx([nll("bab") / 2, nll("bbbb") / 3, nll("aaaa") / 3])
    json.dumps(rows)


def test_predictions_tell_next_tokens_and_the_loss() -> None:
    task, network = bound(), Bigram(TABLE)
    ((name, columns),) = task.decode(["abba"])
    (row,) = task.predict(network, task.inputs(columns))
    assert name == "abba"
    assert row["label"] == "a"
    assert row["scores"] == pytest.approx({"a": 0.6, "b": 0.3})
    assert row["loss"] == pytest.approx(nll("abba") / 3)
    assert row["perplexity"] == pytest.approx(math.exp(nll("abba") / 3))


def test_one_character_has_no_loss() -> None:
    task = bound()
    (row,) = task.predict(Bigram(TABLE), task.decode(["b"])[0][1])
    assert (row["label"], row["loss"], row["perplexity"]) == ("\n", None, None)


def test_long_texts_are_read_in_windows() -> None:
    task, network, text = bound(), Bigram(TABLE, max_seq_len=4), "abba\nabab"
    (row,) = task.predict(network, task.decode([text])[0][1])
    assert row["loss"] == pytest.approx(nll(text) / 8)  # a bigram needs no more than the token before
    assert row["label"] == "\n"
    assert max(network.lengths) == 4


def test_bytes_that_are_no_text_have_names() -> None:
    task = LanguageModelling(LanguageModellingConfig(shown_tokens=3))
    task.load({"tokenizer": ByteTokenizer().state()})

    class Fixed(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            logits = torch.zeros(*tokens.shape, 256)
            logits[..., 0xC3], logits[..., 65], logits[..., 10] = 9.0, 8.0, 7.0
            return logits

    (row,) = task.predict(Fixed(), task.decode(["é"])[0][1])
    assert list(row["scores"]) == ["0xc3", "A", "\n"]


def test_prompts_become_tokens_and_back() -> None:
    task = bound()
    assert task.encode_prompt("ab").tolist() == [1, 2]
    assert task.decode_tokens(torch.tensor([1, 2, 0])) == "ab\n"
    assert task.encode_prompt(None).tolist() == [0]
    assert bound("xyz").encode_prompt(None).tolist() == [0]
    with pytest.raises(DataError, match="empty"):
        task.encode_prompt("")
    with pytest.raises(DataError, match="'z'"):
        task.encode_prompt("az")


def test_state_is_json_and_gives_the_tokeniser_back() -> None:
    task, other = bound(), LanguageModelling(LanguageModellingConfig())
    other.load(json.loads(json.dumps(task.state())))
    assert other.encode_prompt("ba").tolist() == [2, 1]
    assert other.facts() == {"vocab_size": 3, "max_seq_len": 128, "packed": False}


def test_data_without_texts_is_refused() -> None:
    with pytest.raises(DataError, match="data=text"):
        bound().bind(Splits(train=TensorExamples({"features": torch.zeros(3, 2)})))


def test_a_text_data_set_serves_the_task(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abba\n" * 40)
    splits = load(parse_component("data", {"name": "text", "root": str(tmp_path), "test": 0}, "data"))
    task = LanguageModelling(LanguageModellingConfig(seq_len=8))
    task.bind(splits)
    assert task.facts() == {"vocab_size": 3, "max_seq_len": 8, "packed": False}
    assert splits.val is not None
    batch = task.inputs(splits.val.collate(torch.arange(len(splits.val))))
    with torch.no_grad():
        metrics, tables = task.evaluate(Bigram(TABLE).eval(), [batch])
    assert metrics["loss"] == pytest.approx(nll("abba\n" * 4) / 19)
    assert tables["count"] == 19


def test_a_text_read_as_streams_is_scored_as_if_each_stream_were_read_at_once() -> None:
    """64 windows in 16 streams of 4: each scored with all of its stream before it."""
    tokens = torch.randint(3, (64 * 5 + 1,), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = RNN(RNNConfig(vocab_size=3, d_model=4, hidden_size=6, dropout=0.0)).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.7)
    task = bound()
    task.bind_objective(TruncatedBPTTConfig())
    windows = TokenWindows(tokens, 5)

    def loss(parts: list[LanguageMetrics]) -> float:
        whole = task.accumulator()
        whole.merge([part.state() for part in parts])
        return whole.compute()["loss"]

    def read(rank: int, world_size: int) -> LanguageMetrics:
        metrics = task.accumulator()
        with torch.no_grad():
            for batch in in_streams(windows, task.inputs, rank, world_size):
                metrics.update(network, batch)
        return metrics

    with torch.no_grad():
        rows = tokens[:-1].view(16, 20)
        wanted = F.cross_entropy(network(rows).flatten(0, 1), tokens[1:])
        alone = F.cross_entropy(network(rows.view(64, 5)).flatten(0, 1), tokens[1:])
    assert loss([read(0, 1)]) == pytest.approx(float(wanted), abs=1e-12)
    assert loss([read(rank, 3) for rank in range(3)]) == pytest.approx(float(wanted), abs=1e-12)
    assert abs(float(wanted - alone)) > 1e-3


def test_reading_on_travels_with_the_weights() -> None:
    task, other = bound(), bound()
    task.bind_objective(TruncatedBPTTConfig())
    other.load(json.loads(json.dumps(task.state())))
    assert other.streams
    other.bind_objective(AutoregressiveConfig())
    assert not other.streams


def parts(texts: list[str], *, held_out: int = 1, folder: Path | None = None) -> Splits:
    """The last documents validate; with a folder texts lie on disk."""
    store = TextStore.packed(texts)
    if folder is not None:
        (folder := folder / "texts" / "key").mkdir(parents=True)
        store = TextStore.opened(folder, TextStore.write(texts, folder))
    examples = TextExamples(store, {})
    count = len(texts) - held_out
    return Splits(train=Subset(examples, torch.arange(count)), val=Subset(examples, torch.arange(count, len(texts))))


def test_the_alphabet_is_of_all_parts_and_has_what_ends_a_document() -> None:
    task, splits = LanguageModelling(LanguageModellingConfig(seq_len=2)), parts(["abc", "xyz"])
    task.bind(splits)
    assert isinstance(task.tokenizer, CharTokenizer)
    assert task.tokenizer.alphabet == "\nabcxyz"
    assert isinstance(splits.val, TokenWindows)
    assert task.tokenizer.decode(splits.val.tokens[:4]) == "xyz\n"


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_subwords_are_learned_from_the_training_texts_alone(kind: str) -> None:
    pytest.importorskip("tokenizers")
    splits = parts([*["the lower lowest"] * 20, "QQQQ QQQQ QQQQ"])
    task = LanguageModelling(LanguageModellingConfig(tokenizer=kind, vocab_size=280, seq_len=8))
    task.bind(splits)
    pieces = {task.decode_tokens(torch.tensor([i])) for i in range(task.tokenizer.vocab_size)}
    assert "QQ" not in pieces
    assert any("low" in piece for piece in pieces)
    assert task.stop_token is not None
    assert task.encode_prompt(None).tolist() == [task.stop_token]
    assert task.decode_tokens(task.encode_prompt("the lower")) == "the lower"
    other = LanguageModelling(LanguageModellingConfig())
    other.load(json.loads(json.dumps(task.state())))
    assert other.encode_prompt("the lower").tolist() == task.encode_prompt("the lower").tolist()


def test_a_loaded_tokeniser_stays_and_names_what_it_lacks() -> None:
    task = LanguageModelling(LanguageModellingConfig(seq_len=2))
    task.load({"tokenizer": CharTokenizer("ab\n").state()})
    task.bind(parts(["abab", "ba"]))
    assert task.tokenizer.vocab_size == 3
    with pytest.raises(DataError, match="'z'"):
        task.bind(parts(["abzb", "ba"]))


def test_only_training_windows_overlap() -> None:
    splits = parts(["ab" * 50, "ab" * 50])
    LanguageModelling(LanguageModellingConfig(seq_len=10, stride=1)).bind(splits)
    assert splits.train is not None
    assert splits.val is not None
    assert (len(splits.train), len(splits.val)) == (91, 10)  # 101 tokens each with the line feed


def test_a_text_too_short_for_a_window_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"The train text is too short: 5 tokens, at least 129 .*task\.seq_len below 128"
    ):
        LanguageModelling(LanguageModellingConfig()).bind(parts(["abab", "ba"]))


def test_texts_on_disk_give_the_windows_of_texts_in_memory(tmp_path: Path) -> None:
    texts = [f"text {i} " * (i % 5 + 1) for i in range(20)]
    here, there = parts(texts, held_out=4), parts(texts, held_out=4, folder=tmp_path)
    for splits in (here, there):
        LanguageModelling(LanguageModellingConfig(seq_len=8, stride=5)).bind(splits)
    assert isinstance(there.train, StoredWindows)
    assert isinstance(here.train, TokenWindows)
    for one, other in ((here.train, there.train), (here.val, there.val)):
        assert one is not None
        assert other is not None
        batches = [each.collate(torch.arange(len(each))) for each in (one, other)]
        assert torch.equal(batches[0]["labels"], batches[1]["labels"])


def test_packed_parts_hold_their_own_documents_apart() -> None:
    texts = [f"{i}" * (i % 5 + 1) for i in range(20)]
    splits = parts(texts, held_out=4)
    task = LanguageModelling(LanguageModellingConfig(seq_len=16, packed=True))
    task.bind(splits)
    for part, wanted in ((splits.train, texts[:16]), (splits.val, texts[16:])):
        assert isinstance(part, PackedDocuments)
        rows = part.collate(torch.arange(len(part)))
        found: list[str] = []
        for tokens, labels, numbers in zip(*(rows[name] for name in ("tokens", "labels", "documents")), strict=True):
            for number in range(int(numbers.max()) + 1):
                inside = numbers == number
                assert torch.equal(labels[inside][:-1], tokens[inside][1:])
                assert labels[inside][-1:].tolist() == [-100]
                found.append(task.decode_tokens(tokens[inside]))
        assert sorted(found) == sorted(f"\n{text}\n" for text in wanted)


def test_packing_has_no_stride() -> None:
    with pytest.raises(ConfigError, match=r"task\.stride=1.*task\.packed"):
        LanguageModellingConfig(packed=True, stride=1)


def test_hardest_texts_of_packed_rows_are_what_stands_in_them() -> None:
    metrics = bound().accumulator()
    row = {
        "tokens": torch.tensor([[1, 2, 2, 1, 0, 0]]),
        "labels": torch.tensor([[2, 0, 1, -100, -100, -100]]),
        "documents": torch.tensor([[0, 0, 1, 1, -1, -1]]),
        "sample_ids": torch.tensor([0]),
    }

    class Packed(Bigram):
        def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
            return super().forward(tokens)

    with torch.no_grad():
        metrics.update(Packed(TABLE), row)
    assert metrics.compute()["loss"] == pytest.approx((nll("ab\n") + nll("ba")) / 3)
    assert metrics.table()["hardest_texts"][0]["text"] == "ab\na"


@pytest.mark.parametrize("disk", [False, True])
def test_words_of_the_training_texts_are_known_and_the_others_are_told_of(tmp_path: Path, disk: bool) -> None:
    texts = [*["one two"] * 45, "one once", *["one never"] * 4]
    task, splits = (
        LanguageModelling(LanguageModellingConfig(tokenizer="words", seq_len=8)),
        parts(texts, held_out=4, folder=tmp_path if disk else None),
    )
    task.bind(splits)
    assert isinstance(task.tokenizer, SpacedTokenizer)
    assert set(task.tokenizer.words) == {"one", "two", "\n"}
    assert task.facts()["vocab_size"] == 4
    (warning,) = splits.warnings
    assert "0.7 % of train, 33.3 % of val" in warning  # 1 of 46 * 3 tokens, 4 of 4 * 3
    assert task.decode_tokens(task.encode_prompt("one never")) == "one <unk>"
    assert task.decode_tokens(task.encode_prompt(None)) == "\n"
    with pytest.raises(DataError, match="no words"):
        task.encode_prompt("  ")


def test_a_text_without_blanks_has_no_words() -> None:
    splits = parts(["".join(chr(0x4E00 + k) for k in range(500)), "\u4e00"])
    with pytest.raises(DataError, match=r"task\.tokenizer=words: no word .* task\.min_count=2 times"):
        LanguageModelling(LanguageModellingConfig(tokenizer="words", seq_len=8)).bind(splits)
