"""Plain text for language models: a person's file or a folder of `.txt` files, cut into windows of tokens.

Train and validation are contiguous parts of the text (the last tenth validates, as in nanoGPT), so that no window
straddles both.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Batch, Examples, Splits
from layerwise.data.source import DataConfig
from layerwise.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from layerwise.ops.linear_cross_entropy import IGNORED

_VAL_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class TextConfig(DataConfig):
    """Options of plain text. `root` is a text file or a folder of `.txt` files (read in order of name, subfolders too).

    Args:
        seq_len: tokens a window; each is input and, but for the first, target.
        tokenizer: one token a character that occurs, or one a byte of UTF-8.
        stride: tokens from the start of a training window to the next; None means `seq_len`: an epoch is one pass over
            the text. Smaller
            strides give windows that overlap, and 1 every possible window (an epoch is then `seq_len` times as long).
    """

    seq_len: PositiveInt = 128
    tokenizer: Literal["chars", "bytes"] = "chars"
    stride: PositiveInt | None = None


class TokenWindows(Examples):
    """Windows of a token sequence: `tokens` [B, T] and `labels` [B, T], the token after each.

    A sample's id is the position of its first token. The last window may reach past the end: it is filled up with token
    0, and labels there
    are `IGNORED`.

    Args:
        tokens: integers [N].
        seq_len: T.
        stride: from one window's start to the next; None means T, and every token but the first is a target exactly
            once.

    Raises:
        DataError: fewer than two tokens.

    Example:
        >>> windows = TokenWindows(torch.arange(8), seq_len=3)
        >>> windows.collate(torch.tensor([0, 2]))["labels"].tolist()
        [[1, 2, 3], [7, -100, -100]]
    """

    def __init__(self, tokens: Tensor, seq_len: int, stride: int | None = None) -> None:
        if len(tokens) < 2:
            raise DataError(f"a text of {len(tokens)} tokens has no next token to learn")
        self.seq_len, self.stride, self.length = seq_len, stride or seq_len, len(tokens)
        self.consecutive = self.stride == seq_len
        self._count = 1 + max(0, -(-(self.length - 1 - seq_len) // self.stride))
        filled = (self._count - 1) * self.stride + seq_len + 1
        narrow = torch.uint8 if int(tokens.max()) < 256 else torch.int32
        self.tokens = torch.zeros(filled, dtype=narrow)
        self.tokens[: self.length] = tokens
        self._windows = self.tokens.unfold(0, seq_len + 1, self.stride)  # a view [count, T + 1]

    def __len__(self) -> int:
        return self._count

    def collate(self, indices: Tensor) -> Batch:
        window = self._windows.index_select(0, indices).long()
        starts = indices * self.stride
        labels = window[:, 1:].contiguous()
        if len(indices) and int(starts.max()) + self.seq_len >= self.length:
            beyond = starts[:, None] + torch.arange(1, self.seq_len + 1) >= self.length
            labels.masked_fill_(beyond, IGNORED)
        return {"tokens": window[:, :-1].contiguous(), "labels": labels, "sample_ids": starts}

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.length} {self.seq_len} {self.stride} {self.tokens.dtype}".encode())
        digest.update(self.tokens.numpy().data)
        return digest.hexdigest()[:32]


class Text:
    """The data set `text`.

    Raises:
        ConfigError: no `root`, or a validation share of 0 or 1.
        DataError: the files are missing, empty or no UTF-8, or the text is too short for one window.
    """

    def __init__(self, config: TextConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        config = self.config
        if config.root is None:
            raise ConfigError("data.root is required: a text file, or a folder of .txt files.")
        val = read_text(Path(config.val), "data.val") if isinstance(config.val, str) else config.val
        return text_splits(read_text(Path(config.root), "data.root"), val, config)


def text_splits(text: str, val: str | float | None, config: TextConfig) -> Splits:
    """Windows of a text.

    Args:
        text: to train on; its last part validates where `val` is a share.
        val: validation text, or a share of `text`; None means a tenth.
        config: tokeniser and window length.
    """
    share = _VAL_SHARE if val is None else val
    if isinstance(share, float) and not 0 < share < 1:
        raise ConfigError(f"data.val={share:g}: must be > 0 and < 1, or a path to a text of its own.")
    held_out = share if isinstance(share, str) else ""
    tokenizer: Tokenizer = ByteTokenizer() if config.tokenizer == "bytes" else CharTokenizer(text + held_out)
    tokens = tokenizer.encode(text)
    if isinstance(share, str):
        train, validation = tokens, tokenizer.encode(share)
    else:
        cut = int(len(tokens) * (1 - share))
        train, validation = tokens[:cut], tokens[cut:]
    if len(train) <= config.seq_len or len(validation) < 2:
        raise DataError(
            f"The text is too short: {len(train)} tokens to train on and {len(validation)} to validate; at least "
            f"{config.seq_len + 1} and 2 are needed. Give more text or a data.seq_len below {config.seq_len}."
        )
    return Splits(
        train=TokenWindows(train, config.seq_len, config.stride),
        val=TokenWindows(validation, config.seq_len),
        facts={"vocab_size": tokenizer.vocab_size, "max_seq_len": config.seq_len},
        extras={"tokenizer": tokenizer},
        cut=True,
    )


def read_text(path: Path, name: str) -> str:
    """The text of a file, or of all `.txt` files below a folder, joined in order of name.

    Line ends are kept as they are; a byte-order mark is dropped.

    Args:
        path: file or folder.
        name: the option it was given by, for messages.

    Raises:
        DataError: missing, empty, without `.txt` files, or no UTF-8: file and byte offset are named.
    """
    path = path.expanduser()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() == ".txt" and p.is_file())
        if not files:
            raise DataError(f"{name}={path}: the folder has no .txt files.")
        return "".join(_read_file(file) for file in files)
    if not path.is_file():
        raise DataError(f"{name}={path}: no such file or folder.")
    return _read_file(path)


def _read_file(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(10) + 1
        raise DataError(
            f"{path}: not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start} (line {line}). "
            f"Convert it, for example with: iconv -f latin1 -t utf-8."
        ) from error
    if not text:
        raise DataError(f"{path}: the file is empty.")
    return text


DATASETS = {"text": TextConfig()}
