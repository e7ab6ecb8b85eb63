"""Content codings of a request body (RFC 9110, 8.4.1): gzip and deflate, inflated as it arrives.

Nothing here holds more than `PIECE` inflated bytes, whatever a body claims to hold: who reads it
counts what it takes and stops.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

from serve.errors import BadRequest, one_line

PIECE = 64 * 1024
"""Most bytes inflated at a time: 64 KB of input can be 64 MB."""

MEMBERS = 4096
"""Most gzip members in one body: block compressors make one for every 64 KB, an attacker for 20."""

ACCEPTED = ("gzip", "deflate")

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""zlib's `wbits`: a stream in gzip's format (RFC 1952), in zlib's (1950), without any (1951)."""


class Decoder(Protocol):
    """Turns the pieces of a body, as they arrive, into what they were before a coding."""

    def decode(self, piece: bytes) -> Iterator[bytes]:
        """What `piece` adds, at most `PIECE` bytes at a time. Raises BadRequest, 400."""

    def end(self) -> None:
        """The body has ended. Raises BadRequest, 400, when its coding has not."""


def decoder(content_encoding: str) -> Decoder:
    """The decoder for a Content-Encoding header; an empty one and `identity` are none.

    Raises BadRequest, 415, for several codings and for unknown ones.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    names = [name for name in names if name not in ("", "identity")]
    if not names:
        return _Identity()
    if names in (["gzip"], ["x-gzip"]):
        return _Gzip()
    if names == ["deflate"]:
        return _Deflate()
    raise BadRequest(
        f"Content-Encoding: found {one_line(content_encoding)[:100]}, expected {_choices()} or "
        "none: the body as it is",
        415,
        headers={"Accept-Encoding": ", ".join(ACCEPTED)},
    )


class _Identity:
    def decode(self, piece: bytes) -> Iterator[bytes]:
        yield piece

    def end(self) -> None:
        """Do nothing: the body ends where its length says."""


class _Gzip:
    """Members one after another are one body (RFC 1952, 2.2)."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self._members = 1
        self._begun = False

    def decode(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            if self._stream.eof:
                self._members += 1
                if self._members > MEMBERS:
                    raise BadRequest(
                        f"request body: found more than {MEMBERS:,} gzip members, expected fewer"
                    )
                self._stream = zlib.decompressobj(_GZIP)
            yield from _inflate(self._stream, piece, "gzip")
            piece = self._stream.unused_data
            self._begun = True

    def end(self) -> None:
        _require_end(self._stream, "gzip", begun=self._begun)


class _Deflate:
    """zlib's format, as RFC 9110 has it; or without its two bytes in front, as some clients do."""

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._start = b""

    def decode(self, piece: bytes) -> Iterator[bytes]:
        if self._stream is None:
            self._start += piece
            if len(self._start) < 2:
                return
            piece, first = self._start, int.from_bytes(self._start[:2])
            zlib_header = self._start[0] & 0x0F == zlib.DEFLATED and first % 31 == 0
            self._stream = zlib.decompressobj(_ZLIB if zlib_header else _RAW)
        if self._stream.eof:
            raise _after_the_end("deflate")
        yield from _inflate(self._stream, piece, "deflate")
        if self._stream.unused_data:
            raise _after_the_end("deflate")

    def end(self) -> None:
        _require_end(self._stream, "deflate", begun=self._stream is not None)


def _inflate(stream: "zlib._Decompress", piece: bytes, name: str) -> Iterator[bytes]:
    while True:
        try:
            data = stream.decompress(piece, PIECE)
        except zlib.error as error:
            raise BadRequest(
                f"request body: not {name} as its Content-Encoding says, or damaged "
                f"({one_line(str(error))}); leave the header out for a body that is not compressed"
            ) from None
        if data:
            yield data
        piece = stream.unconsumed_tail
        # A full piece may leave more within zlib, for which no input is needed.
        if stream.eof or not (piece or len(data) == PIECE):
            return


def _require_end(stream: "zlib._Decompress | None", name: str, *, begun: bool) -> None:
    if stream is None or not stream.eof:
        found = f"the {name} stream cut off" if begun else "nothing"
        raise BadRequest(f"request body: found {found}, expected all of it by its Content-Encoding")


def _after_the_end(name: str) -> BadRequest:
    return BadRequest(f"request body: found bytes after the {name} stream's end, expected none")


def _choices() -> str:
    return " or ".join(ACCEPTED)
