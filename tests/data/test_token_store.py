"""Texts as tokens, in memory and on disk, and windows of them."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.examples import Subset
from layerwise.data.packing import PackedDocuments
from layerwise.data.subword import Specials, SubwordTokenizer
from layerwise.data.text_store import TextStore
from layerwise.data.texts import TextExamples
from layerwise.data.token_store import StoredTokens, StoredWindows, all_pieces, chosen_texts, tokenised
from layerwise.data.token_windows import TokenWindows
from layerwise.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer

TEXTS = ["one\ntwo", "Gr\u00fc\u00dfe\n", "c"]


def on_disk(folder: Path, texts: list[str]) -> TextStore:
    folder = folder / "cache" / "texts" / "key"
    folder.mkdir(parents=True)
    return TextStore.opened(folder, TextStore.write(texts, folder))


def documents(store: StoredTokens) -> list[list[int]]:
    bounds = store.offsets.tolist()
    return [store.tokens[a:b].tolist() for a, b in itertools.pairwise(bounds)]


def subwords() -> SubwordTokenizer:
    pytest.importorskip("tokenizers")
    specials = Specials(bos="<|endoftext|>", eos="<|endoftext|>")
    return SubwordTokenizer.train(["low lower lowest\n"] * 9, kind="bpe", vocab_size=270, specials=specials)


@pytest.mark.parametrize("disk", [False, True])
def test_documents_end_with_a_line_feed_where_there_is_no_token_for_it(tmp_path: Path, disk: bool) -> None:
    texts = on_disk(tmp_path, TEXTS) if disk else TEXTS
    assert documents(tokenised(texts, ByteTokenizer())) == [
        list(text.encode()) for text in ("one\ntwo\n", "Gr\u00fc\u00dfe\n", "c\n")
    ]
    chars = CharTokenizer("onetwGr\u00fc\u00dfc\n")
    assert documents(tokenised(texts, chars)) == [
        chars.encode(text).tolist() for text in ("one\ntwo\n", "Gr\u00fc\u00dfe\n", "c\n")
    ]


def test_one_document_is_left_as_it_is() -> None:
    assert documents(tokenised(["ab"], ByteTokenizer())) == [[97, 98]]


def test_an_alphabet_without_line_feeds_joins_documents_as_they_are() -> None:
    assert documents(tokenised(["ab", "b"], CharTokenizer("ab"))) == [[0, 1], [1]]


@pytest.mark.parametrize("disk", [False, True])
def test_documents_of_subwords_end_with_their_token(tmp_path: Path, disk: bool) -> None:
    tokenizer, texts = subwords(), ["lower", "low \u00e9\nlow"]
    end = tokenizer.token_id("<|endoftext|>")
    store = tokenised(on_disk(tmp_path, texts) if disk else texts, tokenizer)
    assert documents(store) == [[*tokenizer.encode(text).tolist(), end] for text in texts]
    assert store.tokens.dtype == np.uint16
    framed = tokenised(on_disk(tmp_path / "framed", texts) if disk else texts, tokenizer, framed=True)
    assert documents(framed) == [[end, *document] for document in documents(store)]


def test_framed_documents_begin_with_what_they_end_with() -> None:
    assert documents(tokenised(["a", "bc"], ByteTokenizer(), framed=True)) == [[10, 97, 10], [10, 98, 99, 10]]
    assert documents(tokenised(["abc"], ByteTokenizer(), framed=True)) == [[97, 98, 99]]


def test_a_long_document_has_the_tokens_of_its_lines(tmp_path: Path) -> None:
    tokenizer = subwords()
    text = "".join(f"lowest of {i}\n" for i in range(75_000))  # more than a piece
    texts = on_disk(tmp_path, [text])
    assert len(list(texts.pieces(0))) > 1
    (got,) = documents(tokenised(texts, tokenizer))
    assert tokenizer.decode(got) == text
    # Cut at lines, words stay whole: the tokens are those of the text at once.
    assert got == [*tokenizer.encode(text, special=False).tolist(), tokenizer.eos_id]


def test_texts_on_disk_are_made_tokens_once_for_every_tokeniser(tmp_path: Path) -> None:
    texts = on_disk(tmp_path, TEXTS)
    one = tokenised(texts, ByteTokenizer())

    class Fails(ByteTokenizer):
        def encode(self, text: str) -> Tensor:
            raise AssertionError("they were made before")

    again = tokenised(texts, Fails())
    assert (again.mapped, again.fingerprint(), documents(again)) == (True, one.fingerprint(), documents(one))
    other = tokenised(texts, CharTokenizer("".join(TEXTS)))
    assert other.fingerprint() != one.fingerprint()
    assert len(list((tmp_path / "cache" / "tokens").glob("*/manifest.json"))) == 2
    assert tokenised(TEXTS, ByteTokenizer()).fingerprint() == one.fingerprint()


@pytest.mark.parametrize("chosen", [None, [1], [0, 2], [0, 1, 2, 4], [3, 4]])
@pytest.mark.parametrize("seq_len", [1, 3, 7])
@pytest.mark.parametrize("stride", [None, 2])
def test_windows_read_where_they_lie_are_those_of_all_tokens(
    chosen: list[int] | None, seq_len: int, stride: int | None
) -> None:
    texts = ["abc", "d", "efghij", "", "klmnopq"]
    store = tokenised(texts, CharTokenizer("abcdefghijklmnopq"))
    which = None if chosen is None else torch.tensor(chosen)
    joined = "".join(texts if chosen is None else [texts[i] for i in chosen])
    if len(joined) < 2:
        with pytest.raises(DataError, match="no next token"):
            StoredWindows(store, seq_len, stride, chosen=which)
        return
    got = StoredWindows(store, seq_len, stride, chosen=which)
    want = TokenWindows(CharTokenizer("abcdefghijklmnopq").encode(joined), seq_len, stride)
    assert len(got) == len(want)
    everything = torch.arange(len(want)).flip(0)
    one, other = got.collate(everything), want.collate(everything)
    targets = other["labels"] != -100
    assert torch.equal(one["labels"], other["labels"])
    assert torch.equal(one["tokens"][targets], other["tokens"][targets])
    assert torch.equal(one["sample_ids"], other["sample_ids"])
    assert torch.equal(torch.from_numpy(store.joined(which)), CharTokenizer("abcdefghijklmnopq").encode(joined).int())
    assert store.length(which) == len(joined)


def test_fingerprints_of_windows_tell_contents_and_choices_apart() -> None:
    store, other = (tokenised(texts, ByteTokenizer()) for texts in (["abc", "def"], ["abc", "deg"]))
    prints = {
        each.fingerprint()
        for each in (
            StoredWindows(store, 2),
            StoredWindows(other, 2),
            StoredWindows(store, 3),
            StoredWindows(store, 2, 1),
            StoredWindows(store, 2, chosen=torch.tensor([1])),
        )
    }
    assert len(prints) == 5


def test_the_texts_behind_examples_are_found_through_choices() -> None:
    examples = TextExamples(TEXTS, {})
    chosen = Subset(Subset(examples, torch.tensor([2, 1, 0])), torch.tensor([0, 2]))
    found = chosen_texts(chosen)
    assert found is not None
    assert found[0] is examples.texts
    assert found[1] is not None
    assert found[1].tolist() == [2, 0]


def test_pieces_to_learn_from_are_spread_evenly() -> None:
    texts = [f"{i:04}" for i in range(1000)]
    for source in (texts, TextStore.packed(texts)):
        assert list(all_pieces(source)) == texts
        few = list(all_pieces(source, torch.arange(500), most=400))
        assert 95 <= len(few) <= 105
        assert few == sorted(few)
        assert few[-1] > "0480"


def test_packed_rows_of_tokens_on_disk_are_those_of_tokens_in_memory(tmp_path: Path) -> None:
    texts = [("word " * (i % 7))[: 3 * i + 2] for i in range(30)]
    tokenizer: Tokenizer = ByteTokenizer()
    here, there = (PackedDocuments(tokenised(t, tokenizer), 16) for t in (texts, on_disk(tmp_path, texts)))
    rows = [each.at_epoch(1, 2).collate(torch.arange(len(each))) for each in (here, there)]
    assert all(torch.equal(rows[0][name], rows[1][name]) for name in rows[0])
    assert here.fingerprint() == there.fingerprint()


SCRIPT = """
import sys, threading, time, torch
from pathlib import Path
from layerwise.core.config import parse_component
from layerwise.data.feed import Feed
from layerwise.data.splits import prepare

def held():  # KiB of the process itself; pages of mapped files are not counted, the system takes them back at will
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])

def watch():
    while True:
        peak[0] = max(peak[0], held())
        time.sleep(0.002)

def parse(kind, **tree):
    return parse_component(kind, tree, kind)

root, cache, way = sys.argv[1:]
task = parse("task", name="language_modelling", tokenizer="bytes", seq_len=256, packed=way == "pack").build()
before = held()
peak = [before]
threading.Thread(target=watch, daemon=True).start()
splits = prepare(parse("data", name="text", root=root, cache=cache), 0)
task.bind(splits)
feed = Feed(splits.train, task.inputs, batch_size=8, seed=0, prefetch=True)
total = sum(int(part["tokens"].sum()) for _ in range(50) for part in feed.next_step())
print((max(peak[0], held()) - before) // 1024, total)
"""


def grown(root: Path, cache: Path, way: str) -> tuple[int, int]:
    """MiB that a process grew by that reads a corpus, makes tokens of it and takes 50 batches; a sum of tokens."""
    command = [sys.executable, "-c", SCRIPT, str(root), str(cache), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    megabytes, total = done.stdout.split()
    return int(megabytes), int(total)


def write_corpus(path: Path, megabytes: int) -> Path:
    """A text, or two kilobytes a row."""
    text = "the quick brown fox jumps over the lazy dog " * 45
    line = f"{text}\n" if path.suffix == ".txt" else json.dumps({"text": text}) + "\n"
    with open(path, "w") as out:
        for number in range(megabytes * 1_000_000 // len(line)):
            out.write(line.replace("fox", f"fox {number}", 1))
    return path


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("megabytes", "way", "ending"),
    [
        (30, "windows", ".jsonl"),
        pytest.param(200, "windows", ".txt", marks=pytest.mark.slow),
        pytest.param(200, "pack", ".jsonl", marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, megabytes: int, way: str, ending: str) -> None:
    """A process holds less than a fifth of a corpus beyond what it holds of one of 3 MB. Once more, it reads from the
    cache alone.
    """
    small, _ = grown(write_corpus(tmp_path / f"small{ending}", 3), tmp_path / "cache", way)
    root = write_corpus(tmp_path / f"large{ending}", megabytes)
    large, total = grown(root, tmp_path / "cache", way)
    assert large - small < megabytes / 5
    if megabytes > 100:
        again, same = grown(root, tmp_path / "cache", way)
        assert again - small < megabytes / 5
        assert same == total
