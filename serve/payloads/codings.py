"""Content codings of a request body (RFC 9110, 8.4.1): gzip and deflate, inflated as it arrives.

Decoders yield at most `PIECE` inflated bytes at a time, so the caller can stop at its limit.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

from serve.errors import BadRequest, one_line

PIECE = 64 * 1024
"""Most bytes inflated at a time: 64 KB of input can be 64 MB."""

MEMBERS = 4096
"""Most gzip members in one body: block compressors write one per 64 KB, an attacker one per 20
bytes."""

ACCEPTED = ("gzip", "deflate")

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""zlib's `wbits` for gzip's format (RFC 1952), zlib's (RFC 1950) and raw deflate (RFC 1951)."""


class Decoder(Protocol):
    """Decodes the pieces of a body as they arrive."""

    def decode(self, piece: bytes) -> Iterator[bytes]:
        """Decode `piece`, at most `PIECE` bytes at a time. Raises BadRequest, 400."""

    def end(self) -> None:
        """End the body. Raises BadRequest, 400, if the stream is incomplete."""


def decoder(content_encoding: str) -> Decoder:
    """The decoder for a Content-Encoding header; an empty one means `identity`.

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
        "none",
        415,
        headers={"Accept-Encoding": ", ".join(ACCEPTED)},
    )


class _Identity:
    def decode(self, piece: bytes) -> Iterator[bytes]:
        yield piece

    def end(self) -> None:
        """Do nothing: the body's length has been checked."""


class _Gzip:
    """A body of one or more members (RFC 1952, 2.2)."""

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
    """zlib's format (RFC 9110), or raw deflate, which some clients send."""

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
                f"request body: found data that are damaged or not {name} "
                f"({one_line(str(error))}), expected {name} by its Content-Encoding; omit the "
                "header if the body is not compressed"
            ) from None
        if data:
            yield data
        piece = stream.unconsumed_tail
        # After a full piece, zlib may have more output without further input.
        if stream.eof or not (piece or len(data) == PIECE):
            return


def _require_end(stream: "zlib._Decompress | None", name: str, *, begun: bool) -> None:
    if stream is None or not stream.eof:
        found = f"the {name} stream cut off" if begun else "nothing"
        raise BadRequest(f"request body: found {found}, expected a complete {name} stream")


def _after_the_end(name: str) -> BadRequest:
    return BadRequest(f"request body: found bytes after the {name} stream's end, expected none")


def _choices() -> str:
    return " or ".join(ACCEPTED)
