"""Files in which other libraries keep tokenisers of subwords."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerwise.core.errors import CheckpointError, ConfigError
from layerwise.data.subword import ROLES, Specials, SubwordTokenizer, tokenizers_library

Tree = dict[str, Any]
# What special tokens are called where no file says so, most usual first.
_USUAL = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "bos": ("<s>", "<|startoftext|>", "<|endoftext|>"),
    "eos": ("</s>", "<|endoftext|>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
_CLIP = "bpe_simple_vocab_16e6.txt"
_CLIP_MERGES = 49152 - 256 - 2  # of the file's lines after the first; the rest is not used
# Entries of `tokenizer_config.json` that say where files were or how a class of Python is built.
_NOT_KEPT = ("name_or_path", "tokenizer_file", "special_tokens_map_file", "auto_map", "vocab_file", "merges_file")


def load_subword(source: str | Path) -> SubwordTokenizer:
    """A tokeniser from a directory with `tokenizer.json`, `vocab.txt`, `vocab.json` and `merges.txt`, `encoder.json`
    and `vocab.bpe` (GPT-2's own files) or `bpe_simple_vocab_16e6.txt` (CLIP's), gzipped or not; or from a
    `tokenizer.json` itself.

    `tokenizer_config.json` and `special_tokens_map.json` beside them say what the special tokens are.

    Raises:
        ConfigError: there is no such thing.
        CheckpointError: a file is damaged.
        MissingExtraError: `tokenizers` is not installed.
    """
    source = Path(source)
    if source.is_file():
        folder, names = source.parent, [source.name]
    elif source.is_dir():
        folder, names = source, [path.name for path in source.iterdir()]
    else:
        raise ConfigError(f"{source}: no such tokeniser: it should be a directory or a tokenizer.json.")
    config = _settings(folder)
    if source.is_file() and source.suffix == ".json":
        return _from_definition(_json(source), folder, config)
    if "tokenizer.json" in names:
        return _from_definition(_json(folder / "tokenizer.json"), folder, config)
    if "vocab.txt" in names:
        return _word_piece(folder / "vocab.txt", folder, config)
    for vocabulary, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        found = [_there(folder, name, names) for name in (vocabulary, merges)]
        if found[0] is not None and found[1] is not None:
            vocabulary, pairs = _json(found[0]), _merges(found[1])
            if config.get("tokenizer_class") == "CLIPTokenizer" or "<|startoftext|>" in vocabulary:
                return _clip_files(vocabulary, pairs, folder, config)
            return _byte_pairs(vocabulary, pairs, folder, config)
    clip = _there(folder, _CLIP, names)
    if clip is not None:
        return _clip(clip)
    raise ConfigError(
        f"{source} has no tokeniser: it should hold tokenizer.json, vocab.txt, vocab.json with merges.txt, "
        f"encoder.json with vocab.bpe, or {_CLIP}."
    )


def _there(folder: Path, name: str, names: list[str]) -> Path | None:
    return next((folder / each for each in (name, f"{name}.gz") if each in names), None)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error


def _json(path: Path) -> Tree:
    try:
        tree = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path} is damaged: it should hold an object.")
    return tree


def _merges(path: Path) -> list[tuple[str, str]]:
    pairs = [line.split(" ") for line in _text(path).split("\n") if line and not line.startswith("#version")]
    if wrong := next((pair for pair in pairs if len(pair) != 2), None):
        raise CheckpointError(f"{path} is damaged: a line should have two pieces, got {' '.join(wrong)!r}.")
    return [(first, second) for first, second in pairs]


def _settings(folder: Path) -> Tree:
    """`tokenizer_config.json` with the special tokens of `special_tokens_map.json`."""
    found: Tree = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= _json(folder / name)
    return found


def _specials(config: Mapping[str, Any], vocabulary: Mapping[str, int]) -> Specials:
    """The special tokens that the files name, or else those of usual names."""
    named: dict[str, str] = {}
    for role in ROLES:
        value = config.get(f"{role}_token")
        value = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(value, str) and value in vocabulary:
            named[role] = value
    return Specials(**named) if named else usual_specials(vocabulary)


def usual_specials(vocabulary: Mapping[str, int]) -> Specials:
    """Special tokens by their usual names."""
    found = {role: next((name for name in names if name in vocabulary), None) for role, names in _USUAL.items()}
    if found["cls"] == "[CLS]":
        found["bos"] = found["eos"] = None
    return Specials(**found)


def _kept(config: Mapping[str, Any]) -> Tree:
    kept = {key: value for key, value in config.items() if key not in _NOT_KEPT}
    return {key: value for key, value in kept.items() if key.removesuffix("_token") not in ROLES}


def _from_definition(tree: Tree, folder: Path, config: Tree) -> SubwordTokenizer:
    try:
        plain = SubwordTokenizer(tree)
    except CheckpointError as error:
        raise CheckpointError(f"{folder / 'tokenizer.json'}: {error}") from error
    return SubwordTokenizer(tree, _specials(config, _vocabulary(plain)), config=_kept(config))


def _vocabulary(tokenizer: SubwordTokenizer) -> dict[str, int]:
    model: Tree = tokenizer.definition()["model"]
    vocab = model["vocab"]
    named = dict(vocab) if isinstance(vocab, dict) else {entry[0]: i for i, entry in enumerate(vocab)}
    return named | {token["content"]: token["id"] for token in tokenizer.definition()["added_tokens"]}


def _word_piece(path: Path, folder: Path, config: Tree) -> SubwordTokenizer:
    """BERT's `vocab.txt`: a token a line. Lower case unless the files say otherwise, as transformers has it."""
    lines = _text(path).split("\n")
    vocabulary = {token.rstrip("\r"): number for number, token in enumerate(lines[:-1] if not lines[-1] else lines)}
    library = tokenizers_library()
    specials = _specials(config, vocabulary)
    if specials.unk is None or specials.cls is None or specials.sep is None:
        raise CheckpointError(f"{path} has no [UNK], [CLS] and [SEP]: it is not the vocabulary of a BERT.")
    tokenizer = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token=specials.unk))
    tokenizer.normalizer = library.normalizers.BertNormalizer(
        lowercase=bool(config.get("do_lower_case", True)),
        strip_accents=config.get("strip_accents"),
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
    )
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece(prefix="##")
    return _finished(library, tokenizer, specials, {"tokenizer_class": "BertTokenizer", **_kept(config)}, pair="bert")


def _byte_pairs(vocabulary: Tree, merges: list[tuple[str, str]], folder: Path, config: Tree) -> SubwordTokenizer:
    """GPT-2's and RoBERTa's bytes; the latter has <s> and </s> around a text."""
    library = tokenizers_library()
    specials = _specials(config, vocabulary)
    roberta = "<s>" in vocabulary and "</s>" in vocabulary
    if not roberta:
        specials = Specials(**{role: token for role, token in specials.given().items() if role not in ("cls", "sep")})
    _check(vocabulary, merges, folder)
    prefix = bool(config.get("add_prefix_space", False))
    tokenizer = library.Tokenizer(library.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = library.decoders.ByteLevel()
    kept = {"tokenizer_class": "RobertaTokenizer" if roberta else "GPT2Tokenizer", **_kept(config)}
    mask = config.get("mask_token")
    return _finished(
        library,
        tokenizer,
        specials,
        kept,
        pair="roberta" if roberta else "bytes",
        prefix=prefix,
        blank_before_mask=isinstance(mask, Mapping) and bool(mask.get("lstrip")),
    )


def _clip(path: Path) -> SubwordTokenizer:
    """CLIP's lower-case bytes (Radford et al. 2021): the vocabulary is made of the list of merges."""
    library = tokenizers_library()
    pairs = [line.split() for line in _text(path).split("\n")[1 : 1 + _CLIP_MERGES]]
    if len(pairs) != _CLIP_MERGES or any(len(pair) != 2 for pair in pairs):
        raise CheckpointError(f"{path} is damaged: it should have {_CLIP_MERGES} lines of two pieces after its first.")
    merges = [(first, second) for first, second in pairs]
    letters = list(_byte_letters().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    specials = Specials(bos="<|startoftext|>", eos="<|endoftext|>", pad="<|endoftext|>", unk="<|endoftext|>")
    return _clip_tokenizer(library, vocabulary, merges, specials, {"tokenizer_class": "CLIPTokenizer"})


def _clip_files(vocabulary: Tree, merges: list[tuple[str, str]], folder: Path, config: Tree) -> SubwordTokenizer:
    """The same with vocabulary and merges written out, as transformers keeps it; files may name another token to fill
    up with (Stable Diffusion 2 has "!").
    """
    _check(vocabulary, merges, folder)
    given = {"bos": "<|startoftext|>", "eos": "<|endoftext|>", "pad": "<|endoftext|>", "unk": "<|endoftext|>"}
    named = _specials(config, vocabulary).given() if any(f"{role}_token" in config for role in ROLES) else {}
    specials = Specials(**{role: named.get(role, token) for role, token in given.items()})
    if missing := [token for token in specials.given().values() if token not in vocabulary]:
        raise CheckpointError(f"{folder}: the vocabulary does not have the special token {missing[0]!r}.")
    kept = {"tokenizer_class": "CLIPTokenizer", **_kept(config)}
    return _clip_tokenizer(tokenizers_library(), vocabulary, merges, specials, kept)


def _clip_tokenizer(
    library: Any, vocabulary: Tree, merges: list[tuple[str, str]], specials: Specials, config: Tree
) -> SubwordTokenizer:
    tokenizer = library.Tokenizer(
        library.models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=specials.unk)
    )
    normal = library.normalizers
    tokenizer.normalizer = normal.Sequence(
        [normal.NFC(), normal.Replace(library.Regex(r"\s+"), " "), normal.Lowercase()]
    )
    words = library.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")  # Radford et al.'s tokeniser
    before = library.pre_tokenizers
    tokenizer.pre_tokenizer = before.Sequence(
        [
            before.Split(words, behavior="removed", invert=True),
            before.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    blank = _byte_letters()[ord(" ")]
    decoders = library.decoders
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("</w>", blank), decoders.ByteLevel(), decoders.Strip(" ", 0, 1)]
    )
    return _finished(library, tokenizer, specials, config, pair="clip")


def _byte_letters() -> dict[int, str]:
    """The printable character that stands for each byte in GPT-2's vocabularies, in their order: those that are
    printable in Latin-1 for themselves, the others from 256 on.
    """
    own = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _check(vocabulary: Tree, merges: list[tuple[str, str]], folder: Path) -> None:
    """Whether merges are of the vocabulary: the library does not survive others."""
    strange = next((pair for pair in merges if any(t not in vocabulary for t in (*pair, "".join(pair)))), None)
    if strange is not None or not all(isinstance(number, int) for number in vocabulary.values()):
        raise CheckpointError(
            f"{folder}: vocabulary and merges do not fit together: the vocabulary lacks a part of "
            f"{' '.join(strange or ())!r}, or its entries are no numbers."
        )


def _finished(
    library: Any,
    tokenizer: Any,
    specials: Specials,
    config: Tree,
    *,
    pair: str,
    prefix: bool = False,
    blank_before_mask: bool = False,
) -> SubwordTokenizer:
    """With special tokens known and put around texts."""
    processors = library.processors
    tokenizer.add_special_tokens(
        [
            library.AddedToken(token, lstrip=blank_before_mask and token == specials.mask)
            for token in dict.fromkeys(specials.given().values())
        ]
    )
    before, after = specials.cls or specials.bos, specials.sep or specials.eos
    if pair == "bert":
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{before} $A {after}",
            pair=f"{before} $A {after} $B:1 {after}:1",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in (before, after)],
        )
    elif pair == "bytes":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        ends = [(name, tokenizer.token_to_id(name)) for name in (after, before)]
        trim = pair == "roberta"
        tokenizer.post_processor = processors.RobertaProcessing(*ends, trim, prefix)
    return SubwordTokenizer(json.loads(tokenizer.to_str()), specials, config=config)
