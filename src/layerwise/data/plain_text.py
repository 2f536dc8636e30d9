"""Bytes of a person's file to characters: unpacked, decoded as a stream, and what is wrong named with its line."""

import codecs
import gzip
import io
import itertools
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from layerwise.core.errors import ConfigError, DataError

_CHUNK = 1 << 20
_PACKED = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def open_bytes(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked where it is gzipped, whatever its name."""
    with open(path, "rb") as handle:
        packed = handle.read(len(_PACKED)) == _PACKED
    return cast(IO[bytes], gzip.open(path)) if packed else open(path, "rb")


def read_pieces(
    handle: IO[bytes], name: str, encoding: str = "utf-8", *, option: str | None = "data.encoding"
) -> Iterator[str]:
    """A file's characters, a piece at a time, without a byte-order mark at its beginning.

    Args:
        handle: its bytes.
        name: for messages.
        encoding: that it is in.
        option: that sets another encoding, for messages; None where there is none.

    Raises:
        DataError: it is damaged, has bytes that are not in the encoding, or a NUL character; the line is named.
        ConfigError: there is no such encoding.
    """
    encoding = encoding.lower().replace("_", "-").removesuffix("-sig")
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise ConfigError(f"{option}={encoding}: there is no such encoding.") from error
    taken, line = 0, 1  # bytes before this piece, and the line it begins in, without what the decoder holds back
    beginning, first = b"", True
    while True:
        raw = _read(handle, name)
        beginning = beginning or raw[:2]
        held = len(cast(tuple[bytes, Any], decoder.getstate())[0])
        try:
            text = decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            offset, wrong = taken - held + error.start, line + error.object[: error.start].count(b"\n")
            other = "utf-16" if beginning in _UTF16 else "latin1"
            change = "Convert it" if option is None else f"Set {option}, e.g. {other}, or convert it"
            raise DataError(
                f"{name}: not {encoding.upper()}: byte 0x{error.object[error.start]:02x} at offset {offset} (line "
                f"{wrong}). {change}, for example with: iconv -f {other} -t utf-8."
            ) from error
        if (at := text.find("\0")) >= 0:
            wrong = line + text.count("\n", 0, at)
            raise DataError(f"{name}, line {wrong} has a NUL character: it is not plain text, or damaged.")
        if text:
            yield text.removeprefix("\ufeff") if first else text
            first = False
        taken, line = taken + len(raw), line + text.count("\n")
        if not raw:
            return


def _read(handle: IO[bytes], name: str) -> bytes:
    try:
        return handle.read(_CHUNK)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{name} is damaged or cannot be read: {error}.") from error


def unpack(data: bytes) -> IO[bytes]:
    """Bytes that are at hand as `open_bytes` gives those of a file."""
    held = io.BytesIO(data)
    return cast(IO[bytes], gzip.open(held)) if data[: len(_PACKED)] == _PACKED else held


def read_text(data: bytes, name: str, encoding: str = "utf-8", *, option: str | None = "data.encoding") -> str:
    """All characters of a file, gzipped or not; arguments and errors as `read_pieces` has them."""
    return "".join(read_pieces(unpack(data), name, encoding, option=option))


def read_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Lines without their ends, as Unix, Windows and old Macs write them."""
    universal = io.IncrementalNewlineDecoder(None, translate=True)
    held: list[str] = []
    for piece in itertools.chain(pieces, [""]):
        first, *others = universal.decode(cast(Any, piece), final=not piece).split("\n")
        held.append(first)
        for other in others:
            yield "".join(held)
            held = [other]
    if any(held):
        yield "".join(held)
