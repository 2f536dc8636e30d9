"""The tokeniser of Marian's translation models: one SentencePiece model a language, and one table of numbers for both.

Junczys-Dowmunt et al. 2018, "Marian: fast neural machine translation in C++", arXiv:1804.00344; Kudo, Richardson 2018,
"SentencePiece", arXiv:1808.06226. The files are those of transformers' `MarianTokenizer`, as the opus-mt checkpoints
have them: `source.spm` and `target.spm` cut texts into pieces, `vocab.json` numbers the pieces.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerwise.core.errors import CheckpointError, DataError, MissingExtraError
from layerwise.data.subword import ROLES

Tree = dict[str, Any]
SOURCE, TARGET, VOCABULARY = "source.spm", "target.spm", "vocab.json"
FILES = (SOURCE, TARGET, VOCABULARY)
_CONFIG, _SPECIALS, _GENERATION = "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"
_USUAL = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_WRITING = ("num_beams", "length_penalty", "max_length", "bad_words_ids", "forced_eos_token_id")
_LANGUAGE = re.compile(r">>.*?<<", re.DOTALL)  # of the target, before a source: ">>fra<< Good morning"
_BLANK = "\u2581"  # stands for a blank in pieces
_TIDIED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    *((f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")),
)  # where `clean_up_tokenization_spaces` is on


class MarianTokenizer:
    """Text to numbers of pieces and back; sources and targets are cut by different models.

    A piece that `vocab.json` lacks is <unk>, whatever SentencePiece calls it. A language code at the beginning,
    `>>fra<<`, is one token. Special tokens in a text are themselves.

    Args:
        source, target: SentencePiece models, as their files hold them.
        vocabulary: piece -> number.
        config: entries of `tokenizer_config.json`.
        start: the number that a decoder reads first; None: that of the token that fills up.
        generation: entries of `generation_config.json`, kept for transformers.

    Raises:
        CheckpointError: a part is damaged, a special token has no number, or a setting is not implemented.
        MissingExtraError: `sentencepiece` is not installed.
    """

    unit = "subword"

    def __init__(
        self,
        source: bytes,
        target: bytes,
        vocabulary: Mapping[str, int],
        *,
        config: Mapping[str, Any] | None = None,
        start: int | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        self._raw = {SOURCE: source, TARGET: target}
        self._models = {name: _model(raw, name) for name, raw in self._raw.items()}
        self.config: Tree = {"tokenizer_class": "MarianTokenizer", **(config or {})}
        self.generation: Tree = dict(generation or {})
        self._numbers = _checked(vocabulary)
        self._pieces = {number: piece for piece, number in self._numbers.items()}
        _check_settings(self.config)
        self.roles = _roles(self.config)
        self._added, self._special = _added(self.config, self.roles, self._numbers)
        self._cut = re.compile("|".join(re.escape(token) for token in sorted(self._added, key=len, reverse=True)))
        self.vocab_size = 1 + max(self._pieces)
        self.bos_id = self.pad_id if start is None else start
        if not 0 <= self.bos_id < self.vocab_size:
            raise CheckpointError(f"decoder_start_token_id={start} is not among the {self.vocab_size} of {VOCABULARY}.")

    # ------------------------------------------------------------------------------------------------------ vocabulary

    @property
    def pad_id(self) -> int:
        """Of the token that fills up."""
        return self._numbers[self.roles["pad_token"]]

    @property
    def unk_id(self) -> int:
        """Of the token for what the vocabulary lacks."""
        return self._numbers[self.roles["unk_token"]]

    @property
    def eos_id(self) -> int:
        """Of the token after a text."""
        return self._numbers[self.roles["eos_token"]]

    @property
    def languages(self) -> list[str]:
        """Of sources and targets, as the files call them; none where they do not say."""
        named = [self.config.get("source_lang"), self.config.get("target_lang")]
        return [str(name) for name in named] if all(named) else []

    @property
    def max_tokens(self) -> int | None:
        """Of the longest text, as the files say; None where they do not."""
        longest = self.config.get("model_max_length")
        return None if longest is None else int(longest)

    def token_id(self, token: str) -> int | None:
        """The number of a token; None where the vocabulary does not have it."""
        return self._numbers.get(token)

    def token(self, number: int) -> str | None:
        """The token of a number, as the vocabulary writes it."""
        return self._pieces.get(number)

    # ---------------------------------------------------------------------------------------------- encoding, decoding

    def encode(self, text: str, *, special: bool = True, target: bool = False) -> Tensor:
        """Token numbers, int64 [T].

        Args:
            special: whether the end token stands behind the text.
            target: whether it is a text of the target's language.
        """
        model, unknown = self._models[TARGET if target else SOURCE], self.unk_id
        found: list[int] = []
        for part in self._parts(text):
            if part in self._added:
                found.append(self._numbers[part])
                continue
            code = _LANGUAGE.match(part)
            pieces = model.encode(part[code.end() if code else 0 :], out_type=str)
            found += [self._numbers.get(piece, unknown) for piece in ([code.group()] if code else []) + pieces]
        return torch.tensor([*found, self.eos_id] if special else found, dtype=torch.int64)

    def _parts(self, text: str) -> list[str]:
        """The text cut where tokens stand that are never cut themselves, without empty parts."""
        parts: list[str] = []
        at = 0
        for match in self._cut.finditer(text):
            parts += [text[at : match.start()], match.group()]
            at = match.end()
        parts.append(text[at:])
        for i in range(1, len(parts), 2):  # each of these tokens has a neighbour on both sides
            how = self._added[parts[i]]
            parts[i - 1] = parts[i - 1].rstrip() if how.get("lstrip") else parts[i - 1]
            parts[i + 1] = parts[i + 1].lstrip() if how.get("rstrip") else parts[i + 1]
        return [part for part in parts if part]

    def decode(self, tokens: Tensor | Iterable[int], *, special: bool = False) -> str:
        """The text of token numbers of a target.

        Args:
            special: whether special tokens are shown.

        Raises:
            DataError: a number is not in the vocabulary.
        """
        numbers = [int(token) for token in (tokens.tolist() if isinstance(tokens, Tensor) else tokens)]
        if wrong := [number for number in numbers if number not in self._pieces]:
            raise DataError(f"token {wrong[0]} is not among the tokeniser's {self.vocab_size}")
        model, text = self._models[TARGET], ""
        held: list[str] = []
        for piece in (self._pieces[number] for number in numbers):
            if piece not in self._special:
                held.append(piece)
            elif special:
                text += model.decode_pieces(held) + piece + " "
                held = []
        text = (text + model.decode_pieces(held)).replace(_BLANK, " ").strip()
        for apart, joined in _TIDIED if self.config.get("clean_up_tokenization_spaces") else ():
            text = text.replace(apart, joined)
        return text

    # ----------------------------------------------------------------------------------------------------------- state

    def state(self) -> Tree:
        models = {name: base64.b64encode(raw).decode() for name, raw in self._raw.items()}
        return {"kind": "marian", **self._said(), **models, VOCABULARY: self._numbers}

    def _said(self) -> Tree:
        return {"config": self.config, "start": self.bos_id, "generation": self.generation}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> "MarianTokenizer":
        """The tokeniser whose `state()` it was.

        Raises:
            CheckpointError: it is none.
        """
        try:
            source, target = (base64.b64decode(state[name], validate=True) for name in (SOURCE, TARGET))
            said = {key: state[key] for key in ("config", "start", "generation")}
            vocabulary = state[VOCABULARY]
        except (KeyError, TypeError, binascii.Error) as error:
            raise CheckpointError("This is not the state of a tokeniser of Marian.") from error
        return MarianTokenizer(source, target, vocabulary, **said)

    def files(self, max_tokens: int | None = None) -> dict[str, Tree | bytes]:
        """Files by name from which transformers makes an equal tokeniser; of the network's `config.json` and
        `generation_config.json` the entries that are about special tokens.

        Args:
            max_tokens: the longest text that the network takes, where a file did not say it.
        """
        config = dict(self.config)
        if max_tokens is not None:
            config.setdefault("model_max_length", max_tokens)
        numbers = {"eos_token_id": self.eos_id, "pad_token_id": self.pad_id, "decoder_start_token_id": self.bos_id}
        generation = {"bad_words_ids": [[self.pad_id]], **self.generation, **numbers}
        own = {VOCABULARY: self._numbers, _CONFIG: config, "config.json": numbers, _GENERATION: generation}
        return {**self._raw, **own}


# --------------------------------------------------------------------------------------------------------------- files


def is_marian(folder: Path) -> bool:
    """Whether a folder has files of this tokeniser, all or some."""
    return any((folder / name).is_file() for name in (SOURCE, TARGET))


def load_marian(folder: Path) -> MarianTokenizer:
    """The tokeniser in a directory of transformers: `source.spm`, `target.spm`, `vocab.json`, and what
    `tokenizer_config.json`, `special_tokens_map.json`, `config.json` and `generation_config.json` beside them say.

    Raises:
        CheckpointError: a file is missing or damaged, or a setting is not implemented.
        MissingExtraError: `sentencepiece` is not installed.
    """
    raw = _read(folder)
    config = {**_object(folder / _SPECIALS), **_object(folder / _CONFIG)}
    network = _object(folder / "config.json")
    generation = {key: network[key] for key in _WRITING if network.get(key) is not None}
    generation |= _object(folder / _GENERATION)
    start = network.get("decoder_start_token_id", generation.get("decoder_start_token_id"))
    if start is not None and not isinstance(start, int):
        raise CheckpointError(f"{folder}: decoder_start_token_id={start!r} should be a number.")
    try:
        return MarianTokenizer(
            raw[SOURCE],
            raw[TARGET],
            _object(folder / VOCABULARY),
            config={key: value for key, value in config.items() if key not in ("name_or_path", "target_vocab_file")},
            start=start,
            generation=generation,
        )
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def without_files(state: Mapping[str, Any]) -> tuple[Tree, dict[str, Tree | bytes]]:
    """A tokeniser's state without what is in its files, and the files by name."""
    files = MarianTokenizer.from_state(state).files()
    reference = {key: value for key, value in state.items() if key not in FILES}
    return reference, {name: files[name] for name in (*FILES, _CONFIG)}


def with_files(state: Mapping[str, Any], folder: Path) -> Tree:
    """What `without_files` took apart, read from the folder with its files.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    if all(name in state for name in FILES):
        return dict(state)
    models = {name: base64.b64encode(content).decode() for name, content in _read(folder).items()}
    return {**state, **models, VOCABULARY: _object(folder / VOCABULARY)}


def _read(folder: Path) -> dict[str, bytes]:
    """The SentencePiece models; all three files are there."""
    if absent := [name for name in FILES if not (folder / name).is_file()]:
        raise CheckpointError(
            f"{folder} lacks {' and '.join(absent)}: a tokeniser of Marian needs {SOURCE}, {TARGET} and {VOCABULARY}."
        )
    try:
        return {name: (folder / name).read_bytes() for name in (SOURCE, TARGET)}
    except OSError as error:
        raise CheckpointError(f"{folder}: {error}.") from error


def _object(path: Path) -> Tree:
    """A JSON object; an empty one where there is no such file."""
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path} is damaged: it should hold an object.")
    return tree


# ------------------------------------------------------------------------------------------------------------- details


def _model(raw: bytes, name: str) -> Any:
    """A SentencePiece model."""
    try:
        import sentencepiece  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("sentencepiece", "text", "The tokeniser of a Marian model") from error
    model = sentencepiece.SentencePieceProcessor()
    try:
        whole = bool(raw) and model.LoadFromSerializedProto(raw) and model.get_piece_size() > 0
    except (RuntimeError, OSError) as error:
        raise CheckpointError(f"{name} is damaged: it is no SentencePiece model.") from error
    if not whole:
        raise CheckpointError(f"{name} is damaged: it is no SentencePiece model.")
    return model


def _checked(vocabulary: Mapping[str, Any]) -> dict[str, int]:
    if not isinstance(vocabulary, Mapping) or not vocabulary:
        raise CheckpointError(f"{VOCABULARY} is damaged: it should give each piece its number.")
    pieces: dict[int, str] = {}
    for piece, number in vocabulary.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise CheckpointError(f"{VOCABULARY} is damaged: {piece!r} has {number!r} in place of a number.")
        if number in pieces:
            raise CheckpointError(f"{VOCABULARY} is damaged: {pieces[number]!r} and {piece!r} are both {number}.")
        pieces[number] = piece
    return dict(vocabulary)


def _check_settings(config: Mapping[str, Any]) -> None:
    """Those that change what a tokeniser does and are not implemented."""
    for name in ("separate_vocabs", "sp_model_kwargs", "split_special_tokens"):
        if config.get(name):
            raise CheckpointError(f"{_CONFIG}: {name}={config[name]!r} is not implemented.")
    longest = config.get("model_max_length")
    if longest is not None and (not isinstance(longest, int | float) or longest < 1):
        raise CheckpointError(f"{_CONFIG}: model_max_length={longest!r} should be a number of tokens.")


def _roles(config: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens: `eos_token` and so on -> the token."""
    named = {f"{role}_token": config.get(f"{role}_token") for role in ROLES}
    return _USUAL | {role: _content(token, role) for role, token in named.items() if token is not None}


def _content(token: Any, where: str) -> str:
    content = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(content, str) or not content:
        raise CheckpointError(f"{_CONFIG}: {where}={token!r} is no token.")
    return content


def _added(
    config: Mapping[str, Any], roles: Mapping[str, str], numbers: Mapping[str, int]
) -> tuple[dict[str, Mapping[str, Any]], set[str]]:
    """Tokens that are never cut, with how they treat blanks beside them, and those of them that are special."""
    found: dict[str, Mapping[str, Any]] = {}
    listed = config.get("added_tokens_decoder") or {}
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    if not isinstance(listed, Mapping) or not isinstance(extra, list | Mapping):
        raise CheckpointError(f"{_CONFIG} is damaged: its added tokens are no list.")
    special = [*roles.values(), *(_content(each, "extra_special_tokens") for each in _values(extra))]
    for number, token in listed.items():
        found[_content(token, f"added_tokens_decoder[{number}]")] = token if isinstance(token, Mapping) else {}
        special += [token["content"]] if isinstance(token, Mapping) and token.get("special") else []
    if single := [token for token, how in found.items() if how.get("single_word")]:
        raise CheckpointError(f"{_CONFIG}: single_word=true of {single[0]!r} is not implemented.")
    found = {**{token: {} for token in special}, **found}
    if absent := [token for token in found if token not in numbers]:
        raise CheckpointError(f"{VOCABULARY} does not have the special token {absent[0]!r}.")
    return found, set(special)


def _values(listed: Iterable[Any]) -> list[Any]:
    return list(listed.values()) if isinstance(listed, Mapping) else list(listed)
