"""Tokenisers of subwords: byte-pair encoding, WordPiece and Unigram, by the `tokenizers` library.

Sennrich, Haddow, Birch 2016, "Neural machine translation of rare words with subword units", arXiv:1508.07909 (BPE; on
bytes: Radford et al. 2019, GPT-2). Wu et al. 2016, arXiv:1609.08144 (WordPiece). Kudo 2018, arXiv:1804.10959 (Unigram).

A tokeniser is one JSON value, the `tokenizer.json` of that library, and the names of its special tokens.
"""

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from layerwise.core.errors import CheckpointError, ConfigError, DataError, MissingExtraError

Tree = dict[str, Any]
Kind = Literal["bpe", "wordpiece", "unigram"]
Wrap = Literal["none", "end", "both", "classifier"]
Cut = Literal["longest", "first", "second"]
ROLES = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")
_PRIVATE = 0xF0000  # Unicode's planes for private use: BERT's normaliser takes such characters out of texts
_CUTS = {"longest": "longest_first", "first": "only_first", "second": "only_second"}
_TOKENIZER, _CONFIG = "tokenizer.json", "tokenizer_config.json"
FILES = (_TOKENIZER, _CONFIG)
_GENERAL = "PreTrainedTokenizerFast"  # transformers' class of no model in particular


@dataclass(frozen=True, kw_only=True)
class Specials:
    """Special tokens by their role; None: there is none.

    Args:
        pad: fills up shorter texts.
        unk: stands for what the vocabulary lacks.
        bos, eos: begin and end a text.
        cls, sep: stand before a text that is classified, and after each text of a pair.
        mask: stands for a word that is to be guessed.
    """

    pad: str | None = None
    unk: str | None = None
    bos: str | None = None
    eos: str | None = None
    cls: str | None = None
    sep: str | None = None
    mask: str | None = None

    def given(self) -> dict[str, str]:
        """Role -> token, of those that there are."""
        return {role: token for role in ROLES if (token := getattr(self, role)) is not None}


BERT_SPECIALS = Specials(pad="[PAD]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]")
ROBERTA_SPECIALS = Specials(pad="<pad>", unk="<unk>", cls="<s>", sep="</s>", mask="<mask>")
TRANSLATION_SPECIALS = Specials(pad="<pad>", unk="<unk>", bos="<s>", eos="</s>")


class Pieces(NamedTuple):
    """A text, or a pair of texts, as tokens, and where each token comes from.

    Args:
        tokens: numbers, special ones included.
        segments: 0 in the first text and 1 in the second, as the tokeniser counts special tokens.
        texts: 0 or 1, the text that a token is of; -1 for special tokens.
        words: number of the word that a token is of, within its text; -1 for special tokens.
        offsets: first character of a token in its text, and the one after its last; (0, 0) for special tokens.
    """

    tokens: list[int]
    segments: list[int]
    texts: list[int]
    words: list[int]
    offsets: list[tuple[int, int]]


class SubwordTokenizer:
    """Text to numbers of subwords and back, with special tokens around a text as its definition says.

    Args:
        definition: the JSON of `tokenizer.json`; what it says about padding and cutting is left out.
        specials: special tokens; each must be in the vocabulary.
        config: entries of `tokenizer_config.json` that are kept for other libraries.

    Raises:
        CheckpointError: it is no definition of a tokeniser, or a special token is not in the vocabulary.
        MissingExtraError: `tokenizers` is not installed.

    Example:
        >>> tokenizer = SubwordTokenizer.train(["low lower lowest"] * 9, kind="bpe", vocab_size=260)
        >>> tokenizer.decode(tokenizer.encode("slower"))
        'slower'
    """

    unit = "subword"

    def __init__(
        self,
        definition: Mapping[str, Any],
        specials: Specials | None = None,
        *,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        text = json.dumps({**definition, "padding": None, "truncation": None}, ensure_ascii=False)
        try:
            self._tokenizer = tokenizers_library().Tokenizer.from_str(text)
        except MissingExtraError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"This is no tokeniser's definition: {error}.") from error
        self.specials = specials or Specials()
        self.config: Tree = dict(config or {})
        for role, token in self.specials.given().items():
            if self._tokenizer.token_to_id(token) is None:
                raise CheckpointError(f"The tokeniser's vocabulary does not have its {role} token {token!r}.")
        self._vocab_size = 1 + max(self._tokenizer.get_vocab().values(), default=-1)
        self._cutting: dict[tuple[int, int, str], Any] = {}

    # ------------------------------------------------------------------------------------------------------- training

    @staticmethod
    def train(
        texts: Iterable[str],
        *,
        kind: Kind,
        vocab_size: int,
        specials: Specials | None = None,
        lowercase: bool = False,
        wrap: Wrap | None = None,
        min_count: int = 1,
    ) -> "SubwordTokenizer":
        """A tokeniser learned from texts; equal texts in any order give an equal one.

        Args:
            texts: what to learn from.
            kind: "bpe" on bytes, as GPT-2 (every text can be encoded); "wordpiece", as BERT; "unigram", as
                SentencePiece.
            vocab_size: tokens, special ones included; there may be fewer where texts are few.
            specials: special tokens, numbered first; None: BERT's for "wordpiece", <unk> for "unigram", else none.
            lowercase: whether upper and lower case (and, for "wordpiece", accents) are the same.
            wrap: special tokens around a text: "none"; "end": eos after it; "both": bos before and eos after;
                "classifier": cls before and sep after it, and after the second of a pair. None: "classifier" for
                "wordpiece", else "none".
            min_count: pairs of pieces that occur more rarely are not joined.

        Raises:
            DataError: there is no text.
            ConfigError: a special token that `wrap` or `kind` needs is not given, or `vocab_size` is too small.
        """
        if specials is None:
            specials = {"wordpiece": BERT_SPECIALS, "unigram": Specials(unk="<unk>")}.get(kind, Specials())
        if kind != "bpe" and specials.unk is None:
            raise ConfigError(f"kind={kind!r} needs a token for what its vocabulary lacks: Specials(unk=...).")
        library, ordered = tokenizers_library(), sorted(texts)
        if not any(text.strip() for text in ordered):
            raise DataError("A tokeniser of subwords needs a text to learn from.")
        named = list(dict.fromkeys(specials.given().values()))
        tokenizer = _untrained(library, kind, specials, lowercase)
        if vocab_size < (least := len(named) + (256 if kind == "bpe" else 1)):
            raise ConfigError(
                f"vocab_size={vocab_size}: kind={kind!r} with these special tokens needs {least} at least."
            )
        _learn(library, tokenizer, kind, ordered, vocab_size, specials, min_count)
        tokenizer.add_special_tokens(named)
        around = _template(library, wrap or ("classifier" if kind == "wordpiece" else "none"), specials, tokenizer)
        after = [library.processors.ByteLevel(trim_offsets=True)] if kind == "bpe" else []
        if processors := [*after, *([] if around is None else [around])]:
            tokenizer.post_processor = library.processors.Sequence(processors)
        return SubwordTokenizer(json.loads(tokenizer.to_str()), specials, config={"do_lower_case": lowercase})

    # ------------------------------------------------------------------------------------------------------ vocabulary

    @property
    def vocab_size(self) -> int:
        """One more than the largest number of a token."""
        return self._vocab_size

    def token_id(self, token: str) -> int | None:
        """The number of a token; None where the vocabulary does not have it."""
        return self._tokenizer.token_to_id(token)

    def token(self, number: int) -> str | None:
        """The token of a number, as the vocabulary writes it."""
        return self._tokenizer.id_to_token(number)

    def _special(self, *roles: str) -> int | None:
        token = next((t for role in roles if (t := getattr(self.specials, role)) is not None), None)
        return None if token is None else self._tokenizer.token_to_id(token)

    @property
    def pad_id(self) -> int | None:
        """Of the token that fills up."""
        return self._special("pad")

    @property
    def unk_id(self) -> int | None:
        """Of the token for what the vocabulary lacks."""
        return self._special("unk")

    @property
    def bos_id(self) -> int | None:
        """Of the token before a text: bos, or else cls."""
        return self._special("bos", "cls")

    @property
    def eos_id(self) -> int | None:
        """Of the token after a text: eos, or else sep."""
        return self._special("eos", "sep")

    @property
    def cls_id(self) -> int | None:
        """Of the token before a text: cls, or else bos."""
        return self._special("cls", "bos")

    @property
    def sep_id(self) -> int | None:
        """Of the token after a text: sep, or else eos."""
        return self._special("sep", "eos")

    @property
    def mask_id(self) -> int | None:
        """Of the token for a word that is to be guessed."""
        return self._special("mask")

    @property
    def special_ids(self) -> list[int]:
        """Of all special tokens, in order."""
        added = self._tokenizer.get_added_tokens_decoder()
        own = {self._tokenizer.token_to_id(token) for token in self.specials.given().values()}
        return sorted(own | {number for number, token in added.items() if token.special})

    # -------------------------------------------------------------------------------------------------------- encoding

    def encode(self, text: str, *, special: bool = True) -> Tensor:
        """Token numbers, int64 [T].

        Args:
            special: whether special tokens stand around the text, where the definition has such.
        """
        return torch.tensor(self._tokenizer.encode(text, add_special_tokens=special).ids, dtype=torch.int64)

    def encode_batch(
        self, texts: Sequence[str], *, max_tokens: int | None = None, special: bool = True
    ) -> list[Tensor]:
        """Token numbers of many texts at once, int64 [T] each.

        Args:
            max_tokens: longer texts are cut to so many tokens, special ones included; None cuts nothing.
            special: see `encode`.
        """
        tokenizer = self._for(max_tokens, 0, "longest")
        found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=special)
        return [torch.tensor(each.ids, dtype=torch.int64) for each in found]

    def pieces(
        self,
        texts: Sequence[str],
        seconds: Sequence[str] | None = None,
        *,
        max_tokens: int | None = None,
        cut: Cut = "longest",
    ) -> list[Pieces]:
        """Texts, or pairs of them, as tokens with what is known of each token.

        Args:
            seconds: the second text of each pair.
            max_tokens: see `encode_batch`.
            cut: which text of a pair is cut where both are too long; "longest": from the longer one.

        Raises:
            DataError: the text that is not cut is too long by itself.
        """
        return [each[0] for each in self._windows(_paired(texts, seconds), max_tokens, 0, cut, False)]

    def windows(
        self, texts: Sequence[str], seconds: Sequence[str], *, max_tokens: int, stride: int
    ) -> list[list[Pieces]]:
        """Pairs of texts whose second is read in overlapping windows, each beside the whole first one.

        Args:
            max_tokens: of a window, first text and special tokens included.
            stride: tokens that two windows in a row share.

        Raises:
            DataError: a first text leaves no room for new tokens of the second.
        """
        return self._windows(_paired(texts, seconds), max_tokens, stride, "second", False)

    def pieces_of_words(self, sentences: Sequence[Sequence[str]], *, max_tokens: int | None = None) -> list[Pieces]:
        """Sentences that come as words; `Pieces.words` says which word a token is of.

        A word that has no token at all (a control character, say) has none in the result.
        """
        given = [list(words) for words in sentences]
        return [each[0] for each in self._windows(given, max_tokens, 0, "longest", True)]

    def _windows(
        self, given: list[Any], max_tokens: int | None, stride: int, cut: Cut, words: bool
    ) -> list[list[Pieces]]:
        tokenizer = self._for(max_tokens, stride, cut)
        try:
            found = tokenizer.encode_batch(given, is_pretokenized=words)
        except MissingExtraError:
            raise
        except Exception as error:  # the library raises bare Exception where what must stay does not fit
            raise DataError(
                f"A text leaves no room for its pair within {max_tokens} tokens, of which windows share {stride}: "
                f"{error}."
            ) from error
        windows = [[_pieces(each), *map(_pieces, each.overflowing)] for each in found]
        if cut == "second" and max_tokens is not None:
            for each in windows:
                if len(each) > 1 and sum(text == 1 for text in each[0].texts) <= stride:
                    raise DataError(
                        f"A first text of {sum(text == 0 for text in each[0].texts)} tokens leaves no room for the "
                        f"second within {max_tokens} tokens, of which windows share {stride}."
                    )
        return windows

    def _for(self, max_tokens: int | None, stride: int, cut: Cut) -> Any:
        """The tokeniser that cuts so: one of its own, since cutting is part of the library's object."""
        if max_tokens is None:
            return self._tokenizer
        key = (max_tokens, stride, cut)
        if key not in self._cutting:
            around = self._tokenizer.num_special_tokens_to_add(is_pair=False)
            if max_tokens <= around + stride:
                raise ConfigError(
                    f"max_tokens={max_tokens} leaves no room for text: {around} special tokens stand around it and "
                    f"windows share {stride}."
                )
            made = tokenizers_library().Tokenizer.from_str(self._tokenizer.to_str())
            made.enable_truncation(max_tokens, stride=stride, strategy=_CUTS[cut])
            self._cutting[key] = made
        return self._cutting[key]

    def decode(self, tokens: Tensor | Iterable[int], *, special: bool = False) -> str:
        """The text of token numbers.

        Args:
            special: whether special tokens are shown.
        """
        numbers = [int(token) for token in (tokens.tolist() if isinstance(tokens, Tensor) else tokens)]
        size = self.vocab_size
        if wrong := [number for number in numbers if not 0 <= number < size]:
            raise DataError(f"token {wrong[0]} is not among the tokeniser's {size}")
        return self._tokenizer.decode(numbers, skip_special_tokens=not special)

    # ----------------------------------------------------------------------------------------------------------- state

    def definition(self) -> Tree:
        """The JSON of `tokenizer.json`."""
        return json.loads(self._tokenizer.to_str())

    def state(self) -> Tree:
        return {
            "kind": "subword",
            "definition": self.definition(),
            "specials": self.specials.given(),
            "config": self.config,
        }

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> "SubwordTokenizer":
        """The tokeniser whose `state()` it was.

        Raises:
            CheckpointError: it is none.
        """
        definition, specials = state.get("definition"), state.get("specials", {})
        if not isinstance(definition, dict) or not isinstance(specials, dict) or set(specials) - set(ROLES):
            raise CheckpointError("This is not the state of a tokeniser of subwords.")
        return SubwordTokenizer(definition, Specials(**specials), config=state.get("config"))

    def files(self, max_tokens: int | None = None, *, segments: bool = False) -> dict[str, Tree]:
        """Files by name from which transformers makes an equal tokeniser.

        Args:
            max_tokens: the longest text that the network takes, where a file did not say it.
            segments: the network is told which of two texts a token is of, where a file did not say it.
        """
        files = _files(self.definition(), self.specials.given(), self.config, max_tokens)
        if segments and files[_CONFIG]["tokenizer_class"] == _GENERAL:  # a class of its own knows what it gives
            files[_CONFIG].setdefault("model_input_names", ["input_ids", "token_type_ids", "attention_mask"])
        return files


def without_definition(state: Mapping[str, Any]) -> tuple[Tree, dict[str, Tree]]:
    """A tokeniser's state with its definition in a file of its own, and the files by name: those from which
    transformers makes an equal tokeniser. Tokenisers of other kinds have no files.
    """
    if state.get("kind") != "subword":
        return dict(state), {}
    reference = {key: value for key, value in state.items() if key != "definition"}
    return {**reference, "file": _TOKENIZER}, _files(state["definition"], state["specials"], state["config"], None)


def with_definition(state: Mapping[str, Any], folder: Path) -> Tree:
    """What `without_definition` took apart, read from the folder with its files.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    if state.get("kind") != "subword" or "file" not in state:
        return dict(state)
    path = folder / _TOKENIZER
    try:
        definition = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as a tokeniser: {error}.") from error
    return {**{key: value for key, value in state.items() if key != "file"}, "definition": definition}


# ------------------------------------------------------------------------------------------------------------- details


def _files(
    definition: Tree, specials: Mapping[str, str], own: Mapping[str, Any], max_tokens: int | None
) -> dict[str, Tree]:
    config = {"tokenizer_class": _GENERAL, "clean_up_tokenization_spaces": False, **own}
    config |= {f"{role}_token": token for role, token in specials.items()}
    if max_tokens is not None:
        config.setdefault("model_max_length", max_tokens)
    return {_TOKENIZER: definition, _CONFIG: config}


def tokenizers_library() -> Any:
    """The `tokenizers` library, its threads off unless the environment turns them on.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import tokenizers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("tokenizers", "text", "A tokeniser of subwords") from error
    # Read by the library at each call. Its threads fight with torch's, and warn after a fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return tokenizers


def _paired(texts: Sequence[str], seconds: Sequence[str] | None) -> list[Any]:
    return list(texts) if seconds is None else list(zip(texts, seconds, strict=True))


def _pieces(found: Any) -> Pieces:
    texts = [-1 if text is None else text for text in found.sequence_ids]
    words = [-1 if word is None else word for word in found.word_ids]
    return Pieces(found.ids, found.type_ids, texts, words, found.offsets)


def _untrained(library: Any, kind: Kind, specials: Specials, lowercase: bool) -> Any:
    """The steps around the vocabulary: normalising, cutting into words, joining again."""
    models, normal, before, decoders = (
        library.models,
        library.normalizers,
        library.pre_tokenizers,
        library.decoders,
    )
    if kind == "wordpiece":
        tokenizer = library.Tokenizer(models.WordPiece(unk_token=specials.unk))
        tokenizer.normalizer = normal.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = before.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(prefix="##")
        return tokenizer
    lower = [normal.Lowercase()] if lowercase else []
    if kind == "bpe":
        tokenizer = library.Tokenizer(models.BPE())
        if lower:
            tokenizer.normalizer = lower[0]
        tokenizer.pre_tokenizer = before.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer
    tokenizer = library.Tokenizer(models.Unigram())
    blanks = normal.Replace(library.Regex(r"\s+"), " ")
    tokenizer.normalizer = normal.Sequence([normal.NFKC(), blanks, normal.Strip(), *lower])
    tokenizer.pre_tokenizer = before.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _learn(
    library: Any, tokenizer: Any, kind: Kind, texts: list[str], vocab_size: int, specials: Specials, min_count: int
) -> None:
    """Put a vocabulary learned from texts into the tokeniser."""
    named = list(dict.fromkeys(specials.given().values()))
    if kind == "bpe":
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=named,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            min_frequency=min_count,
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
    elif kind == "wordpiece":
        counts: Counter[str] = Counter()
        for text in texts:
            words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
            counts.update(word for word, _ in words)
        vocabulary = _word_pieces(library, counts, vocab_size, named, min_count)
        tokenizer.model = library.models.WordPiece(vocabulary, unk_token=specials.unk)
    else:
        normal = [line for text in texts if (line := tokenizer.normalizer.normalize_str(text))]
        pieces = _unigrams(normal, vocab_size - len(named))
        scored = [(name, 0.0) for name in named] + [piece for piece in pieces if piece[0] not in named]
        tokenizer.model = library.models.Unigram(scored, unk_id=named.index(str(specials.unk)))


def _word_pieces(
    library: Any, counts: Mapping[str, int], vocab_size: int, named: list[str], min_count: int
) -> dict[str, int]:
    """Pieces of words by byte-pair encoding, those inside a word marked by ##.

    The library's own trainer of WordPiece numbers the pieces inside words in the order of a hash table, which differs
    from process to process. Letters inside words are therefore given as letters of their own, and marked afterwards.
    """
    inside = {letter: chr(_PRIVATE + i) for i, letter in enumerate(sorted({c for word in counts for c in word[1:]}))}
    marked = {private: letter for letter, private in inside.items()}
    trained = library.Tokenizer(library.models.BPE())
    trained.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=named, min_frequency=min_count, show_progress=False
    )
    words = (word[0] + "".join(inside[c] for c in word[1:]) + " " for word in sorted(counts))
    repeated = (word * count for word, count in zip(words, (counts[w] for w in sorted(counts)), strict=True))
    trained.train_from_iterator(repeated, trainer)
    found: dict[str, int] = {}
    for token, number in dict[str, int](trained.get_vocab()).items():
        plain = token if token in named else "".join(marked.get(c, c) for c in token)
        found[f"##{plain}" if token[0] in marked else plain] = number
    return found


def _unigrams(texts: list[str], size: int) -> list[tuple[str, float]]:
    """Pieces and their log probabilities by SentencePiece, whose trainer gives the same result in every process, as
    the one of `tokenizers` does not.
    """
    try:
        import sentencepiece  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("sentencepiece", "text", "Learning a vocabulary of unigrams") from error
    letters = {" ", *(letter for text in texts for letter in text)}
    if size < len(letters):
        raise ConfigError(f"The vocabulary is too small for the {len(letters)} different characters of the texts.")
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=written,
            model_type="unigram",
            vocab_size=size + 1,  # with its own token for what is unknown
            character_coverage=1.0,
            normalization_rule_name="identity",  # done before
            max_sentence_length=1 << 30,
            hard_vocab_limit=False,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"vocab_size: {str(error).splitlines()[-1]}") from error
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    numbers = [i for i in range(model.get_piece_size()) if not model.is_unknown(i)]
    return [(model.id_to_piece(i), model.get_score(i)) for i in numbers]


def _template(library: Any, wrap: Wrap, specials: Specials, tokenizer: Any) -> Any:
    """The step that puts special tokens around a text; None: none."""
    if wrap == "none":
        return None
    roles = {"end": ("eos",), "both": ("bos", "eos"), "classifier": ("cls", "sep")}[wrap]
    names = [getattr(specials, role) for role in roles]
    if absent := [role for role, name in zip(roles, names, strict=True) if name is None]:
        raise ConfigError(f"wrap={wrap!r} needs a special token: Specials({absent[0]}=...).")
    first, last = (names[0] if len(names) == 2 else None), names[-1]
    start = [] if first is None else [first]
    return library.processors.TemplateProcessing(
        single=[*start, "$A", last],
        pair=[*start, "$A:0", f"{last}:0", "$B:1", f"{last}:1"],
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )
