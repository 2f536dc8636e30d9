"""Windows of a text: inputs, targets, the end."""

import pytest
import torch

from layerwise.data.token_windows import TokenWindows


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


def test_the_end_of_a_text_alone_in_a_batch_has_tokens_where_it_has_no_targets() -> None:
    batch = TokenWindows(torch.arange(1, 7), seq_len=8).collate(torch.tensor([0]))
    assert batch["tokens"].tolist() == [[1, 2, 3, 4, 5, 6, 0, 0]]
    assert batch["labels"].tolist() == [[2, 3, 4, 5, 6, -100, -100, -100]]
