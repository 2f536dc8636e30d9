"""Many texts as UTF-8 behind one another, in memory or mapped from disk: a text is decoded when it is asked for."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

PIECE_BYTES = 1 << 20  # of long texts
_BYTES, _OFFSETS, _KEYS = "texts.bin", "offsets.npy", "keys.npy"


class TextStore(Sequence[str]):
    """A sequence of texts.

    Args:
        data: uint8 [N], their UTF-8.
        offsets: int64 [texts + 1], where each begins; the last is where the last one ends.
        digest: a hash of the content, equal for equal texts in equal order.
        keys: int64 [texts], of each text a hash in which blanks count once.
        cache: the folder that they lie in, on disk, for what is made of them; None: they lie in memory.

    Example:
        >>> store = TextStore.packed(["né", "a"])
        >>> store[0], len(store), list(store[:])
        ('né', 2, ['né', 'a'])
    """

    def __init__(
        self,
        data: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        digest: str,
        keys: NDArray[np.int64] | None = None,
        cache: Path | None = None,
    ) -> None:
        self.data, self.offsets, self.digest, self.keys, self.cache = data, offsets, digest, keys, cache

    @staticmethod
    def packed(texts: Iterable[str | Iterable[str]]) -> "TextStore":
        """Texts in memory; one may be given as its pieces."""
        held = bytearray()
        offsets, keys, digest = _write(texts, held.extend)
        return TextStore(np.frombuffer(held, np.uint8), offsets, digest, keys)

    @staticmethod
    def write(texts: Iterable[str | Iterable[str]], folder: Path) -> dict[str, Any]:
        """Write texts into a folder, a piece held at a time, for `opened`; what `opened` needs to know."""
        with open(folder / _BYTES, "wb") as out:
            offsets, keys, digest = _write(texts, out.write)
        np.save(folder / _OFFSETS, offsets)
        np.save(folder / _KEYS, keys)
        return {"digest": digest}

    @staticmethod
    def opened(folder: Path, known: dict[str, Any]) -> "TextStore":
        """The texts that `write` wrote into a folder of a cache (`disk_cache.kept`), mapped."""
        offsets = np.load(folder / _OFFSETS, mmap_mode="r")
        size = (folder / _BYTES).stat().st_size
        data = np.memmap(folder / _BYTES, np.uint8, "r") if size else np.zeros(0, np.uint8)
        keys = np.load(folder / _KEYS, mmap_mode="r")
        return TextStore(data, offsets, known["digest"], keys, cache=folder.parent.parent)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Bytes of each text, int64 [texts]."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self.raw(index).decode()

    def raw(self, index: int) -> bytes:
        """The UTF-8 of a text."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        index %= len(self)
        return self.data[int(self.offsets[index]) : int(self.offsets[index + 1])].tobytes()

    def pieces(self, index: int, size: int = PIECE_BYTES) -> Iterator[str]:
        """A text in pieces of about `size` bytes, cut where a line begins, so that words stay whole.

        Where lines are longer than a piece, or begin with a blank, a piece ends before the blank after a word; where
        there is none, after any character.
        """
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        while start < end:
            stop = self.cut_before(min(start + size, end), start) if start + size < end else end
            yield self.data[start:stop].tobytes().decode()
            start = stop

    def cut_before(self, place: int, least: int) -> int:
        """A byte at which a piece may end, at most `place` and more than `least`: before a line that begins with no
        blank and follows one that is not empty, else before a blank that follows a word, else before a character.
        """
        window = self.data[least:place]
        breaks = np.flatnonzero(window == 10)
        breaks = breaks[(breaks > 0) & (breaks < len(window) - 1)]
        blank = (window == 10) | (window == 13) | (window == 32) | (window == 9)
        if len(good := breaks[~blank[breaks - 1] & ~blank[breaks + 1]]):
            return least + int(good[-1]) + 1
        if len(good := np.flatnonzero(~blank[:-1] & blank[1:])):
            return least + int(good[-1]) + 1
        return max(least + 1, self.at_character(place))

    def at_character(self, place: int) -> int:
        """The byte at which the character begins that byte `place` is of."""
        while 0 < place < len(self.data) and self.data[place] & 0xC0 == 0x80:
            place -= 1
        return place

    def content_keys(self) -> NDArray[np.int64]:
        """64 bits of a hash of each text, blanks between words counted once; a piece of a text is held at a time."""
        if self.keys is None:
            found = (_key(piece.encode() for piece in self.pieces(i)) for i in range(len(self)))
            self.keys = np.fromiter(found, np.int64, len(self))
        return np.asarray(self.keys)

    def part(self, first: int, last: int) -> "TextStore":
        """The texts, or what there is of them, from byte `first` up to byte `last`."""
        inside = self.offsets[(self.offsets > first) & (self.offsets < last)]
        offsets = np.concatenate([[first], inside, [last]]).astype(np.int64)
        digest = hashlib.sha256(f"{self.digest} {first} {last}".encode()).hexdigest()[:32]
        return TextStore(self.data, offsets, digest, cache=self.cache)


def _key(pieces: Iterable[bytes]) -> int:
    key = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        key.update(b" ".join(piece.split()))
    return int.from_bytes(key.digest(), "little", signed=True)


def _write(texts: Iterable[str | Iterable[str]], out: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Give the UTF-8 of texts to `out`, a piece at a time; offsets, keys and digest of them."""
    offsets, keys, total = array("q", [0]), array("q"), 0
    digest = hashlib.sha256()

    def written(pieces: Iterable[str]) -> Iterator[bytes]:
        nonlocal total
        for piece in pieces:
            encoded = piece.encode()
            out(encoded)
            digest.update(encoded)
            total += len(encoded)
            yield encoded

    for text in texts:
        keys.append(_key(written((text,) if isinstance(text, str) else text)))
        offsets.append(total)
    made = np.frombuffer(offsets, np.int64)
    digest.update(made.tobytes())
    return made, np.frombuffer(keys, np.int64), digest.hexdigest()[:32]
