"""Subwords to numbers and back: training, special tokens, pairs, windows, offsets, state."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import torch

from layerwise.core.errors import CheckpointError, ConfigError, DataError
from layerwise.data.subword import BERT_SPECIALS, TRANSLATION_SPECIALS, Specials, SubwordTokenizer
from layerwise.data.tokenizers import Tokenizer, tokenizer_from

pytest.importorskip("tokenizers")

TEXTS = [
    "Low, lower and lowest: the film isn't well-made.",
    "Grüße aus München, schöne naïve Städte!",
    "the lower the wider, the lowest the widest",
    "films and film makers make films",
] * 5
KINDS = ["bpe", "wordpiece", "unigram"]


def trained(kind: str, **options: object) -> SubwordTokenizer:
    return SubwordTokenizer.train(TEXTS, kind=kind, vocab_size=320 if kind == "bpe" else 90, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_decoding_gives_the_text_back(kind: str) -> None:
    tokenizer: Tokenizer = trained(kind)
    for text in TEXTS:
        tokens = tokenizer.encode(text)
        assert tokens.dtype == torch.int64
        assert tokenizer.decode(tokens) == text
    assert tokenizer.decode(tokenizer.encode("")) == ""


def test_bytes_encode_every_text() -> None:
    tokenizer = trained("bpe")
    text = "Ω 漢字 🙂\t\x00"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_first_merge_is_the_commonest_pair() -> None:
    # "ab" stands seven times, every other pair at most four times.
    tokenizer = SubwordTokenizer.train(["ab abc abd", "ab ab", "cab dab"], kind="bpe", vocab_size=257)
    assert tokenizer.vocab_size == 257
    assert tokenizer.token(256) == "ab"


def test_word_pieces_inside_words_are_marked() -> None:
    tokenizer = SubwordTokenizer.train(["ab ab ab cb"], kind="wordpiece", vocab_size=9)
    tokens = [tokenizer.token(i) for i in range(tokenizer.vocab_size)]
    assert tokens == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "c", "##b", "ab"]
    assert tokenizer.encode("cb AB").tolist() == [2, 6, 7, 1, 3]


def test_training_gives_the_same_in_every_process_and_order() -> None:
    code = (
        "import json, sys; from layerwise.data.subword import SubwordTokenizer\n"
        "texts, kinds = json.loads(sys.argv[1]), json.loads(sys.argv[2])\n"
        "made = [SubwordTokenizer.train(texts, kind=k, vocab_size=320 if k == 'bpe' else 90) for k in kinds]\n"
        "print(json.dumps([t.state() for t in made], sort_keys=True))"
    )
    command = [sys.executable, "-c", code, json.dumps(TEXTS[::-1]), json.dumps(KINDS)]
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(elsewhere) == json.loads(json.dumps([trained(kind).state() for kind in KINDS]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_makes_an_equal_tokenizer(kind: str) -> None:
    tokenizer = trained(kind, lowercase=True)
    again = tokenizer_from(json.loads(json.dumps(tokenizer.state())))
    assert isinstance(again, SubwordTokenizer)
    assert again.state() == tokenizer.state()
    assert all(again.encode(t).tolist() == tokenizer.encode(t).tolist() for t in [*TEXTS, "Unseen WORDS"])


def test_lower_case_is_chosen_at_training() -> None:
    for kind in KINDS:
        lower, both = trained(kind, lowercase=True), trained(kind)
        assert lower.encode("LOWER film").tolist() == lower.encode("lower FILM").tolist()
        assert both.encode("LOWER film").tolist() != both.encode("lower FILM").tolist()


def test_special_tokens_stand_around_a_text() -> None:
    tokenizer = trained("wordpiece")
    assert [tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.special_ids) == (2, 3, [0, 1, 2, 3, 4])
    tokens = tokenizer.encode("film").tolist()
    assert (tokens[0], tokens[-1]) == (2, 3)
    assert tokens[1:-1] == tokenizer.encode("film", special=False).tolist()
    assert tokenizer.decode(tokens) == "film"
    assert tokenizer.decode(tokens, special=True) == "[CLS] film [SEP]"
    ended = trained("unigram", specials=TRANSLATION_SPECIALS, wrap="end")
    assert ended.encode("film").tolist()[-1] == ended.eos_id == 3
    both = trained("bpe", specials=Specials(bos="<s>", eos="</s>"), wrap="both")
    assert [both.encode("film").tolist()[k] for k in (0, -1)] == [0, 1]
    assert both.pad_id is None


def test_batches_equal_single_texts_and_are_cut_before_the_last_special_token() -> None:
    tokenizer = trained("wordpiece")
    found = tokenizer.encode_batch(TEXTS[:4])
    assert [f.tolist() for f in found] == [tokenizer.encode(t).tolist() for t in TEXTS[:4]]
    short = tokenizer.encode_batch(TEXTS[:4], max_tokens=6)
    for long, cut in zip(found, short, strict=True):
        assert cut.tolist() == [*long.tolist()[:5], 3]
    assert tokenizer.encode(TEXTS[0]).tolist() == found[0].tolist()  # the cut is not kept


def test_a_pair_has_two_segments_and_offsets_in_each_text() -> None:
    tokenizer = trained("wordpiece")
    first, second = "lower films", "the widest film"
    (pair,) = tokenizer.pieces([first], [second])
    assert pair.tokens[0] == 2
    assert pair.tokens.count(3) == 2
    split = pair.tokens.index(3) + 1
    assert pair.segments == [0] * split + [1] * (len(pair.tokens) - split)
    assert [t for t, text in zip(pair.tokens, pair.texts, strict=True) if text == -1] == [2, 3, 3]
    words = ["", ""]
    for text, (start, end) in zip(pair.texts, pair.offsets, strict=True):
        if text >= 0:
            words[text] += (first, second)[text][start:end]
    assert words == ["lowerfilms", "thewidestfilm"]


def test_windows_cover_the_second_text_and_share_the_stride() -> None:
    tokenizer = trained("wordpiece")
    context = " ".join(TEXTS[:4])
    (windows,) = tokenizer.windows(["the film"], [context], max_tokens=30, stride=8)
    assert len(windows) > 2
    spans = []
    for window in windows:
        assert len(window.tokens) <= 30
        assert [w for w, t in zip(window.offsets, window.texts, strict=True) if t == 0] == [(0, 3), (4, 8)]
        spans.append([o for o, t in zip(window.offsets, window.texts, strict=True) if t == 1])
    assert all(left[-8:] == right[:8] for left, right in itertools.pairwise(spans))
    (whole,) = tokenizer.pieces(["the film"], [context])
    assert sorted({o for span in spans for o in span}) == [
        o for o, t in zip(whole.offsets, whole.texts, strict=True) if t == 1
    ]


def test_a_first_text_without_room_for_the_second_is_an_error() -> None:
    tokenizer = trained("wordpiece")
    with pytest.raises(DataError, match="leaves no room"):
        tokenizer.windows([TEXTS[0]], [TEXTS[1]], max_tokens=12, stride=4)


def test_words_given_keep_their_numbers() -> None:
    tokenizer = trained("wordpiece")
    (found,) = tokenizer.pieces_of_words([["lowest", "films", "\u200b", "!"]])
    assert found.words[0] == found.words[-1] == -1
    assert sorted(set(found.words)) == [-1, 0, 1, 3]  # a blank of no width has no token


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ConfigError, match=r"vocab_size=100.*needs 256"):
        SubwordTokenizer.train(TEXTS, kind="bpe", vocab_size=100)
    with pytest.raises(DataError, match="needs a text"):
        SubwordTokenizer.train(["", " "], kind="wordpiece", vocab_size=100)
    with pytest.raises(ConfigError, match="wrap='end' needs"):
        trained("bpe", wrap="end")
    with pytest.raises(ConfigError, match="different characters"):
        SubwordTokenizer.train(TEXTS, kind="unigram", vocab_size=8)
    with pytest.raises(CheckpointError, match="no tokeniser's definition"):
        SubwordTokenizer({"model": 3})
    with pytest.raises(CheckpointError, match="does not have its mask token"):
        SubwordTokenizer(trained("bpe").definition(), BERT_SPECIALS.__class__(mask="[MASK]"))
    with pytest.raises(DataError, match="not among"):
        trained("bpe").decode([100_000])
    with pytest.raises(ConfigError, match="leaves no room"):
        trained("wordpiece").encode_batch(TEXTS, max_tokens=2)


def test_threads_of_the_library_are_off() -> None:
    trained("bpe")
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
