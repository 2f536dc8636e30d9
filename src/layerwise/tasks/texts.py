"""What tasks on texts share: the tokeniser, model inputs, texts out of files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.examples import Examples, Splits
from layerwise.data.text_table import SUFFIXES as TABLE_SUFFIXES
from layerwise.data.text_table import TextFile, read_rows
from layerwise.data.texts import pack_texts, unpack_texts
from layerwise.data.tokenizers import ByteTokenizer, Tokenizer, WordTokenizer, tokenizer_from
from layerwise.tasks.base import Batch, Task

_KEPT_TOKENS = 20_000_000  # of texts already met; beyond it they are encoded anew
_TOGETHER = 64  # texts of a file that are made equally long


class TextTask(Task):
    """Raw `text` uint8 [B, L] to model inputs `tokens` int64 [B, T] and `mask` bool [B, T].

    The mask is True where there is a token. A text of more than `max_tokens` tokens is cut after them; T is the batch's
    longest.

    Args:
        max_tokens: a text's first so many tokens are read.

    Attributes:
        file: how files of texts are read.
    """

    predicts = "text"

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.file = TextFile()
        self._tokenizer: Tokenizer | None = None
        self._met: dict[bytes, Tensor] = {}
        self._met_tokens = 0

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns texts into tokens."""
        if self._tokenizer is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._met, self._met_tokens = tokenizer, {}, 0

    def bind_texts(
        self, splits: Splits, needs: set[str], kind: Literal["words", "bytes"], min_count: int, lowercase: bool
    ) -> None:
        """Make the tokeniser, of words from the training texts.

        Args:
            needs: columns that the task cannot do without, `text` apart.

        Raises:
            DataError: the data has no texts, or lacks a column.
        """
        part = next((split for split in (splits.train, splits.val, splits.test) if split is not None), None)
        name = type(self).__name__
        if part is None or part.texts is None:
            raise DataError(f"{name} needs texts: data=sst, or data=text_table for a file of your own.")
        if missing := needs - set(part.collate(torch.tensor([0]))):
            raise DataError(f"{name}: the data has no column {', '.join(sorted(missing))}.")
        self.file = TextFile.from_json(splits.extras["text_file"]) if "text_file" in splits.extras else TextFile()
        self.tokenizer = (
            ByteTokenizer()
            if kind == "bytes"
            else WordTokenizer.learn(part.texts, min_count=min_count, lowercase=lowercase)
        )
        self._warn_of_cuts(part, splits)

    def _warn_of_cuts(self, part: Examples, splits: Splits) -> None:
        texts = part.texts or ()
        cut = sum(len(text) > self.max_tokens and len(self.tokenizer.encode(text)) > self.max_tokens for text in texts)
        if cut:
            splits.warnings.append(
                f"{cut} of {len(texts)} training texts are longer than task.max_tokens={self.max_tokens}: the rest of "
                f"each is not read."
            )

    def state(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer.state(),
            "max_tokens": self.max_tokens,
            "file": self.file.to_json(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.tokenizer = tokenizer_from(state["tokenizer"])
        self.max_tokens, self.file = state["max_tokens"], TextFile.from_json(state["file"])

    def facts(self) -> dict[str, Any]:
        return {"vocab_size": self.tokenizer.vocab_size, "max_seq_len": self.max_tokens}

    def encode(self, text: bytes) -> Tensor:
        """A text's tokens, int64 [at most max_tokens]; kept, since every epoch asks again."""
        found = self._met.get(text)
        if found is None:
            found = self.tokenizer.encode(text.decode())[: self.max_tokens]
            if self._met_tokens + len(found) <= _KEPT_TOKENS:
                self._met[text], self._met_tokens = found, self._met_tokens + len(found)
        return found

    def token_inputs(self, column: Tensor) -> Batch:
        """`tokens` and `mask` of a raw column; T is at least 1."""
        rows = [self.encode(text) for text in unpack_texts(column)]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        mask = torch.arange(max(1, int(lengths.max()) if rows else 1)) < lengths[:, None]
        tokens = torch.zeros(mask.shape, dtype=torch.int64)
        if rows:
            tokens[mask] = torch.cat(rows)
        return {"tokens": tokens, "mask": mask}

    def inputs(self, batch: Batch) -> Batch:
        made = {name: value for name, value in batch.items() if name != "text"}
        return {**self.token_inputs(batch["text"]), **made}

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Texts as given; of a `.txt` file every line, of a CSV, JSON Lines or Parquet file every row, named
        `file:line`.

        Raises:
            DataError: an empty text, a file that is not there, one without the training data's text column.
        """
        found: list[tuple[str, str]] = []
        for given in inputs:
            found += _texts_of_file(given, self.file) if _names_a_file(given) else [(given, given)]
        if any(not text.strip() for _, text in found):
            name = next(name for name, text in found if not text.strip())
            raise DataError(f"The text is empty: {name!r}." if name.strip() else "The text is empty.")
        rows: list[tuple[str, Batch]] = []
        for start in range(0, len(found), _TOGETHER):
            some = found[start : start + _TOGETHER]
            column = pack_texts([text.replace("\0", " ") for _, text in some])
            rows += [(name, {"text": column[i : i + 1]}) for i, (name, _) in enumerate(some)]
        return rows


def _names_a_file(given: str) -> bool:
    """Whether a person means a file: one that is there, or a lone word that ends like one."""
    ending = given.lower().removesuffix(".gz").endswith((".txt", *TABLE_SUFFIXES))
    try:
        return Path(given).is_file() or (ending and not any(c.isspace() for c in given))
    except OSError:  # longer than a file's name can be
        return False


def _texts_of_file(name: str, file: TextFile) -> list[tuple[str, str]]:
    path = Path(name)
    if not path.is_file():
        raise DataError(f"{name}: there is no such file.")
    if name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES):
        table = read_rows(path.read_bytes(), name, file)
        if file.text not in table.columns:
            raise DataError(f"{name} has no column {file.text!r}; columns: {', '.join(table.columns)}.")
        cells = zip(table.lines, table.columns[file.text], strict=True)
        return [(f"{name}:{line}", cell) for line, cell in cells]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8: {error.reason} at byte {error.start}.") from error
    found = [(f"{name}:{number}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise DataError(f"{name} is empty.")
    return found
