"""What tasks on texts share: the tokeniser, model inputs, texts out of files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Examples, Splits, Subset
from layerwise.data.hub import fetch, is_hub_id
from layerwise.data.plain_text import read_text
from layerwise.data.subword import BERT_SPECIALS, ROBERTA_SPECIALS, SubwordTokenizer
from layerwise.data.text_table import SUFFIXES as TABLE_SUFFIXES
from layerwise.data.text_table import TextFile, read_rows
from layerwise.data.texts import TextExamples, pack_texts, unpack_texts
from layerwise.data.tokenizers import ByteTokenizer, Tokenizer, WordTokenizer, tokenizer_from
from layerwise.tasks.base import Batch, Task

LEARNED = ("words", "bytes", "bpe", "wordpiece", "unigram")
_KEPT_TOKENS = 20_000_000  # of texts already met; beyond it they are encoded anew
_COUNTED = 20_000  # training texts whose lengths the report shows
_TOGETHER = 64  # texts of a file that are made equally long


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """How texts become tokens.

    Args:
        tokenizer: "words" of the training texts; "bytes" of their UTF-8; subwords learned from them by "bpe",
            "wordpiece" or "unigram"; or the directory, or hub id, of a tokeniser or a checkpoint that has one. With
            `init` it is the checkpoint's.
        vocab_size: of subwords that are learned.
        min_count: words that occur more rarely share the token of unknown words.
        lowercase: whether upper and lower case are the same to a tokeniser that is learned.
        max_tokens: a text's first so many tokens are read, special ones included.
    """

    tokenizer: str = "words"
    vocab_size: PositiveInt = 8000
    min_count: PositiveInt = 1
    lowercase: bool = True
    max_tokens: PositiveInt = 256


@dataclass(frozen=True, kw_only=True)
class PackedOptions(TokenOptions):
    """How texts become tokens, and how those of a batch lie beside one another.

    Args:
        packed: behind one another in one row, each attending to itself alone, in place of one a row, filled up; for
            models that take `documents`. Results are the same up to rounding.
    """

    packed: bool = False


class TextTask(Task):
    """Raw `text` uint8 [B, L] to model inputs `tokens` int64 [B, T] and `mask` bool [B, T]; of pairs (raw `pair`), also
    `segments` int64 [B, T], 0 in the first text and 1 in the second.

    The mask is True where there is a token. A text of more than `max_tokens` tokens is cut after them, of a pair the
    longer text; T is the batch's longest.

    Args:
        options: how texts become tokens.

    Attributes:
        file: how files of texts are read.
        paired: whether examples are pairs of texts.
        class_names: in order of label, of tasks with classes.
        packed: a batch's texts lie behind one another in one row, `tokens` and, in place of the mask, `documents`
            int64 [1, N]; a matter of speed alone.
    """

    predicts = "text"
    keeps_state = True
    packed = False

    def __init__(self, options: TokenOptions) -> None:
        self.options, self.max_tokens = options, options.max_tokens
        self.file = TextFile()
        self.paired = False
        self.class_names: list[str] = []
        self._tokenizer: Tokenizer | None = None
        self._met: dict[tuple[bytes, ...], Tensor] = {}
        self._met_tokens = 0

    @property
    def example_input(self) -> str | None:
        return "$'one text\\tanother'" if self.paired else super().example_input

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns texts into tokens."""
        if self._tokenizer is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._met, self._met_tokens = tokenizer, {}, 0

    @property
    def subwords(self) -> SubwordTokenizer:
        """The tokeniser, where it must be one of subwords.

        Raises:
            ConfigError: it is another one.
        """
        if not isinstance(self.tokenizer, SubwordTokenizer):
            raise ConfigError(
                f"{type(self).__name__} needs a tokeniser of subwords: start from a checkpoint with init=..., or set "
                "task.tokenizer to wordpiece or to the directory of one."
            )
        return self.tokenizer

    def bind_texts(self, splits: Splits, needs: set[str]) -> None:
        """Check the data and make the tokeniser, from the training texts where it is learned; one that was loaded
        stays.

        Args:
            needs: columns that the task cannot do without, `text` apart.

        Raises:
            DataError: the data has no texts, or lacks a column.
        """
        part = next((split for split in (splits.train, splits.val, splits.test) if split is not None), None)
        name = type(self).__name__
        if part is None or part.texts is None:
            raise DataError(f"{name} needs texts: data=sst, or data=text_table for a file of your own.")
        columns = set(part.collate(torch.tensor([0])))
        if missing := needs - columns:
            raise DataError(f"{name}: the data has no column {', '.join(sorted(missing))}.")
        self.paired = "pair" in columns
        self.file = TextFile.from_json(splits.extras["text_file"]) if "text_file" in splits.extras else TextFile()
        if self._tokenizer is None:
            self.tokenizer = self._learned(part)
        if self.paired:
            _ = self.subwords  # words and bytes have nothing to tell two texts apart by
        self._warn_of_cuts(part, splits)

    def open(self, class_names: list[str], longest: int) -> None:
        """Bind to a checkpoint in place of data: its tokeniser, class names and positions.

        Args:
            class_names: in order of label; none where the head has no classes.
            longest: tokens that the network takes.
        """
        self.tokenizer = load_text_tokenizer(self.options.tokenizer)
        self.max_tokens = min(self.max_tokens, longest)
        if class_names:
            self.class_names = class_names

    def _learned(self, part: Examples) -> Tokenizer:
        options, texts = self.options, [*(part.texts or ()), *(seconds_of(part) or ())]
        if options.tokenizer == "bytes":
            return ByteTokenizer()
        if options.tokenizer == "words":
            return WordTokenizer.learn(texts, min_count=options.min_count, lowercase=options.lowercase)
        if options.tokenizer in ("bpe", "wordpiece", "unigram"):
            return SubwordTokenizer.train(
                texts,
                kind=options.tokenizer,
                vocab_size=options.vocab_size,
                specials=BERT_SPECIALS if options.tokenizer == "wordpiece" else ROBERTA_SPECIALS,
                lowercase=options.lowercase,
                min_count=options.min_count,
                wrap="classifier",
            )
        return load_text_tokenizer(options.tokenizer)

    def _warn_of_cuts(self, part: Examples, splits: Splits) -> None:
        texts, seconds = part.texts or (), seconds_of(part)
        long = [i for i, t in enumerate(texts) if len(t) + len(seconds[i] if seconds else "") + 3 > self.max_tokens]
        chosen = [(texts[i], *((seconds[i],) if seconds else ())) for i in long]
        cut = sum(length > self.max_tokens for length in self._lengths(chosen))
        if cut:
            splits.warnings.append(
                f"{cut} of {len(texts)} training texts are longer than task.max_tokens={self.max_tokens}: the rest of "
                f"each is not read."
            )

    def _lengths(self, given: Sequence[tuple[str, ...]]) -> list[int]:
        """Tokens of texts or pairs, before they are cut."""
        if isinstance(self.tokenizer, SubwordTokenizer):
            seconds = [each[1] for each in given] if self.paired else None
            return [len(found.tokens) for found in self.tokenizer.pieces([each[0] for each in given], seconds)]
        return [len(self.tokenizer.encode(each[0])) for each in given]

    def state(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer.state(),
            "max_tokens": self.max_tokens,
            "paired": self.paired,
            "file": self.file.to_json(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.tokenizer = tokenizer_from(state["tokenizer"])
        self.max_tokens, self.paired = state["max_tokens"], bool(state.get("paired"))
        self.file = TextFile.from_json(state["file"])

    def facts(self) -> dict[str, Any]:
        asked = {"packed": self.packed, "paired": self.paired}  # of the network's forward
        sizes = {"vocab_size": self.tokenizer.vocab_size, "max_seq_len": self.max_tokens}
        return {**sizes, **{name: True for name, holds in asked.items() if holds}}

    def encode_all(self, given: Sequence[tuple[bytes, ...]]) -> list[Tensor]:
        """Tokens of each text, int64 [1, at most max_tokens], or of each pair with its segments [2, ...]; kept, since
        every epoch asks again.
        """
        fresh = list(dict.fromkeys(each for each in given if each not in self._met))
        made = dict(zip(fresh, self._tokenised([tuple(t.decode() for t in each) for each in fresh]), strict=True))
        for key, rows in made.items():
            if self._met_tokens + rows.numel() <= _KEPT_TOKENS:
                self._met[key], self._met_tokens = rows, self._met_tokens + rows.numel()
        return [made[each] if each in made else self._met[each] for each in given]

    def _tokenised(self, given: Sequence[tuple[str, ...]]) -> list[Tensor]:
        if not isinstance(self.tokenizer, SubwordTokenizer):
            return [self.tokenizer.encode(each[0])[None, : self.max_tokens] for each in given]
        firsts = [each[0] for each in given]
        if not self.paired:
            return [tokens[None] for tokens in self.tokenizer.encode_batch(firsts, max_tokens=self.max_tokens)]
        found = self.tokenizer.pieces(firsts, [each[1] for each in given], max_tokens=self.max_tokens)
        return [torch.tensor([each.tokens, each.segments]) for each in found]

    def token_inputs(self, batch: Batch) -> Batch:
        """`tokens`, `mask` and, of pairs, `segments` of raw columns; T is at least 1."""
        columns = [unpack_texts(batch[name]) for name in ("text", "pair") if name in batch]
        return self.padded(self.encode_all(list(zip(*columns, strict=True))))

    def padded(self, rows: Sequence[Tensor]) -> Batch:
        """Token rows [1 or 2, T_i] as one batch.

        Raises:
            DataError: a text without tokens is to be packed.
        """
        if self.packed:
            return _behind_one_another(rows)
        lengths = torch.tensor([row.shape[1] for row in rows], dtype=torch.int64)
        mask = torch.arange(max(1, int(lengths.max()) if len(rows) else 1)) < lengths[:, None]
        fill = (self.tokenizer.pad_id or 0) if isinstance(self.tokenizer, SubwordTokenizer) else 0
        made: Batch = {"tokens": torch.full(mask.shape, fill, dtype=torch.int64), "mask": mask}
        if rows:
            joined = torch.cat(list(rows), dim=1)
            made["tokens"][mask] = joined[0]
            if len(joined) > 1:
                made["segments"] = torch.zeros(mask.shape, dtype=torch.int64)
                made["segments"][mask] = joined[1]
        return made

    def inputs(self, batch: Batch) -> Batch:
        made = {name: value for name, value in batch.items() if name not in ("text", "pair")}
        return {**self.token_inputs(batch), **made}

    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """How many tokens the training texts have."""
        part = None if splits is None else splits.train
        if part is None or not part.texts:
            return []
        seconds, chosen = seconds_of(part), range(0, len(part.texts), -(-len(part.texts) // _COUNTED))
        lengths = self._lengths([(part.texts[i], *((seconds[i],) if seconds else ())) for i in chosen])
        folder.mkdir(parents=True, exist_ok=True)
        draw_lengths(lengths, self.max_tokens, folder / "lengths.png")
        middle = sorted(lengths)[len(lengths) // 2]
        caption = (
            f"Tokens of {len(lengths):,} training texts: half have {middle} or fewer, the longest {max(lengths):,}."
        )
        return [(caption, folder / "lengths.png")]

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Texts as given; of a `.txt` file every line, of a CSV, JSON Lines or Parquet file every row, named
        `file:line`. Two texts of a pair have a tab between them where they do not come from the columns of a table.

        Raises:
            DataError: an empty text, a file that is not there, one without the training data's text column.
        """
        found: list[tuple[str, str]] = []
        for given in inputs:
            found += texts_of_file(given, self.file) if names_a_file(given) else [(given, given)]
        if any(not text.strip() for _, text in found):
            name = next(name for name, text in found if not text.strip())
            raise DataError(f"The text is empty: {name!r}." if name.strip() else "The text is empty.")
        parts = [(name, tuple(text.split("\t")) if self.paired else (text,)) for name, text in found]
        if self.paired and (wrong := next((name for name, texts in parts if len(texts) != 2), None)) is not None:
            raise DataError(f"{wrong!r}: expected two texts with a tab between them; the model judges pairs.")
        rows: list[tuple[str, Batch]] = []
        for start in range(0, len(parts), _TOGETHER):
            some = parts[start : start + _TOGETHER]
            columns = {
                column: pack_texts([texts[k].replace("\0", " ") for _, texts in some])
                for k, column in enumerate(("text", "pair") if self.paired else ("text",))
            }
            rows += [
                (name, {column: held[i : i + 1] for column, held in columns.items()})
                for i, (name, _) in enumerate(some)
            ]
        return rows


def _behind_one_another(rows: Sequence[Tensor]) -> Batch:
    """Token rows [1 or 2, T_i] in one row, [1, N]."""
    lengths = torch.tensor([row.shape[1] for row in rows])
    if not bool(lengths.all()):
        raise DataError("A text has no tokens, and cannot be told from its neighbours when packed: task.packed=false.")
    joined = torch.cat(list(rows), dim=1)
    made: Batch = {"tokens": joined[:1], "documents": torch.arange(len(rows)).repeat_interleave(lengths)[None]}
    return made | ({"segments": joined[1:2]} if len(joined) > 1 else {})


def draw_lengths(lengths: Sequence[int], most: int, path: Path) -> None:
    """A histogram of numbers of tokens, with a line where texts are cut, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.hist(lengths, bins=min(40, max(lengths) - min(lengths) + 1), color="#3f51b5")
    if max(lengths) > most:
        axes.axvline(most, color="0.3", linestyle="--", linewidth=1)
    axes.set(xlabel="tokens", ylabel="texts")
    figure.savefig(path, dpi=120)


def load_text_tokenizer(source: str, learned: Sequence[str] = LEARNED) -> Tokenizer:
    """The tokeniser in a directory: files of another library, or a model or run of this package.

    Args:
        source: the directory, or a hub id.
        learned: other names that could have been meant, for messages.

    Raises:
        ConfigError: there is none.
        CheckpointError: it is damaged.
    """
    from layerwise.data.marian import is_marian
    from layerwise.data.subword_files import load_subword
    from layerwise.data.tokenizer_files import join_state, load_directory
    from layerwise.track import files

    for folder in (Path(source) / "model", Path(source)):
        config = files.read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
        state = (config.get("task_state") or {}).get("tokenizer")
        if isinstance(state, dict) and state.get("kind") != "subword":
            return tokenizer_from(join_state(state, folder))
        if is_marian(folder) or (folder / "tokenizer.json").is_file():
            return load_directory(folder)
    if not Path(source).exists():
        if not is_hub_id(source):
            raise ConfigError(f"task.tokenizer={source}: neither {', '.join(learned)} nor a directory that is there.")
        return load_directory(fetch(source))
    return load_subword(source)


def seconds_of(examples: Examples) -> Sequence[str] | None:
    """The second text of every example, where examples are pairs."""
    if isinstance(examples, Subset):
        found = seconds_of(examples.parent)
        return None if found is None else [str(found[i]) for i in examples.indices.tolist()]
    return examples.seconds if isinstance(examples, TextExamples) else None


def names_a_file(given: str) -> bool:
    """Whether a person means a file: one that is there, or a lone word that ends like one."""
    ending = given.lower().removesuffix(".gz").endswith((".txt", *TABLE_SUFFIXES))
    try:
        return Path(given).is_file() or (ending and not any(c.isspace() for c in given))
    except (OSError, ValueError):  # longer than a file's name can be, or with a NUL
        return False


def texts_of_file(name: str, file: TextFile) -> list[tuple[str, str]]:
    """(`file:line`, text) of a file of texts; the two of a pair with a tab between them.

    Raises:
        DataError: it is not there, empty, not UTF-8 or without the column of texts.
    """
    path = Path(name)
    if not path.is_file():
        raise DataError(f"{name}: there is no such file.")
    if name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES):
        table = read_rows(path.read_bytes(), name, file, fixed=True)
        wanted = [file.text] if file.pair is None else [file.text, file.pair]
        if absent := [column for column in wanted if column not in table.columns]:
            raise DataError(f"{name} has no column {absent[0]!r}; columns: {', '.join(table.columns)}.")
        cells = zip(*(table.columns[column] for column in wanted), strict=True)
        if file.pair is None:
            return [(f"{name}:{line}", text) for line, (text,) in zip(table.lines, cells, strict=True)]
        return [
            (f"{name}:{line}", "\t".join(" ".join(text.split()) for text in texts))
            for line, texts in zip(table.lines, cells, strict=True)
        ]
    lines = read_text(path.read_bytes(), name, file.encoding, option=None).split("\n")
    found = [(f"{name}:{number}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise DataError(f"{name} is empty.")
    return found
