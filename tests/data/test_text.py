"""A person's own text: files, windows, parts."""

from pathlib import Path

import pytest
import torch

from layerwise.core import discovery
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.text import Text, TextConfig, TokenWindows

TEXT = "".join(chr(97 + i % 26) for i in range(1000))


def write(folder: Path, text: str | bytes = TEXT, name: str = "text.txt") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def whole(windows: TokenWindows) -> dict[str, torch.Tensor]:
    return windows.collate(torch.arange(len(windows)))


@pytest.mark.parametrize("length", [2, 6, 7, 8, 11, 12, 13])
@pytest.mark.parametrize("seq_len", [1, 3, 6])
def test_every_token_but_the_first_is_a_target_once(length: int, seq_len: int) -> None:
    tokens = torch.arange(length) + 1
    batch = whole(TokenWindows(tokens, seq_len))
    targets = batch["labels"] != -100
    assert batch["labels"][targets].tolist() == list(range(2, length + 1))
    assert batch["tokens"][targets].tolist() == list(range(1, length))  # each target's input stands before it
    assert batch["sample_ids"].tolist() == list(range(0, length - 1, seq_len))


def test_a_stride_of_one_gives_every_window() -> None:
    windows = TokenWindows(torch.arange(10), seq_len=4, stride=1)
    assert len(windows) == 6
    batch = windows.collate(torch.tensor([0, 5]))
    assert batch["tokens"].tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert batch["labels"].tolist() == [[1, 2, 3, 4], [6, 7, 8, 9]]
    assert batch["sample_ids"].tolist() == [0, 5]


def test_large_vocabularies_are_kept_exactly() -> None:
    tokens = torch.tensor([0, 300, 70_000, 255, 256])
    assert whole(TokenWindows(tokens, seq_len=4))["labels"].tolist() == [[300, 70_000, 255, 256]]


def test_fingerprints_tell_contents_and_windows_apart() -> None:
    tokens = torch.arange(20)
    same, other = TokenWindows(tokens, 4).fingerprint(), TokenWindows(tokens.flip(0), 4).fingerprint()
    assert same == TokenWindows(tokens.clone(), 4).fingerprint()
    assert len({same, other, TokenWindows(tokens, 5).fingerprint(), TokenWindows(tokens, 4, 2).fingerprint()}) == 4


def test_the_last_tenth_validates(tmp_path: Path) -> None:
    splits = Text(TextConfig(root=write(tmp_path), seq_len=10)).splits()
    tokenizer = splits.extras["tokenizer"]
    train, val = splits.train, splits.val
    assert isinstance(train, TokenWindows)
    assert isinstance(val, TokenWindows)
    assert tokenizer.decode(train.tokens[:900]) == TEXT[:900]
    assert tokenizer.decode(val.tokens[:100]) == TEXT[900:]
    assert (train.length, val.length) == (900, 100)
    assert splits.facts == {"vocab_size": 26, "max_seq_len": 10}


def test_validation_is_never_strided(tmp_path: Path) -> None:
    splits = Text(TextConfig(root=write(tmp_path), seq_len=10, stride=1)).splits()
    assert splits.train is not None
    assert splits.val is not None
    assert (len(splits.train), len(splits.val)) == (890, 10)


def test_share_and_path_of_validation(tmp_path: Path) -> None:
    root = write(tmp_path)
    quarter = Text(TextConfig(root=root, seq_len=10, val=0.25)).splits()
    assert isinstance(quarter.val, TokenWindows)
    assert quarter.val.length == 250
    own = Text(TextConfig(root=root, seq_len=10, val=write(tmp_path, "zebra Ω", "val/v.txt"))).splits()
    assert isinstance(own.val, TokenWindows)
    assert own.facts["vocab_size"] == 28  # 26 letters, space and omega
    assert own.extras["tokenizer"].decode(own.val.tokens[:7]) == "zebra Ω"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_that_leave_a_part_empty_are_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="must be > 0 and < 1"):
        Text(TextConfig(root=write(tmp_path), val=share)).splits()


def test_bytes_need_no_alphabet(tmp_path: Path) -> None:
    splits = Text(TextConfig(root=write(tmp_path, "Ω" * 500), tokenizer="bytes", seq_len=8)).splits()
    assert splits.facts["vocab_size"] == 256
    assert isinstance(splits.train, TokenWindows)
    assert splits.train.length == 900


def test_a_folder_is_read_in_order_of_name(tmp_path: Path) -> None:
    for name, letter in (("b/1.txt", "b"), ("a.txt", "a"), ("c.TXT", "c"), ("d.md", "d")):
        write(tmp_path, letter * 100, name)
    splits = Text(TextConfig(root=str(tmp_path), seq_len=10)).splits()
    assert isinstance(splits.train, TokenWindows)
    assert splits.extras["tokenizer"].decode(splits.train.tokens[:270]) == "a" * 100 + "b" * 100 + "c" * 70


def test_line_ends_stay_and_a_byte_order_mark_goes(tmp_path: Path) -> None:
    splits = Text(TextConfig(root=write(tmp_path, b"\xef\xbb\xbf" + b"a\r\n" * 100), seq_len=4)).splits()
    assert splits.extras["tokenizer"].alphabet == "\n\ra"


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root is required"):
        Text(TextConfig()).splits()
    with pytest.raises(DataError, match="no such file or folder"):
        Text(TextConfig(root=str(tmp_path / "nowhere"))).splits()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.txt files"):
        Text(TextConfig(root=str(tmp_path / "empty"))).splits()
    with pytest.raises(DataError, match="the file is empty"):
        Text(TextConfig(root=write(tmp_path, ""))).splits()
    with pytest.raises(DataError, match=r"data\.val=.*no such file"):
        Text(TextConfig(root=write(tmp_path), val=str(tmp_path / "nowhere"))).splits()


def test_bytes_that_are_no_utf8_are_named_with_their_offset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"byte 0xe9 at offset 7 \(line 2\)"):
        Text(TextConfig(root=write(tmp_path, b"one\ncaf\xe9"))).splits()


def test_a_text_too_short_for_a_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too short: 90 tokens to train on and 10 to validate; at least 129 and 2"):
        Text(TextConfig(root=write(tmp_path, TEXT[:100]))).splits()


def test_options_are_known_without_importing_the_module() -> None:
    assert type(discovery.spec("data", "text").defaults).__name__ == "TextConfig"
    assert discovery.spec("data", "tiny_shakespeare").defaults.seq_len == TextConfig().seq_len
