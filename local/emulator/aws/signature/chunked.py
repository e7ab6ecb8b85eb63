"""Reads the body of an S3 upload: decodes `aws-chunked` and verifies checksums."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Protocol

from local.emulator.aws.signature.signing import Signer, same
from local.emulator.errors import ServiceError

STREAMING = "STREAMING-"
"""Prefix of `x-amz-content-sha256` if the body is `aws-chunked`."""
UNSIGNED = "UNSIGNED-PAYLOAD"
PAYLOAD = "payload"
"""The name of the hash that the signature covers."""
CHECKSUM = "x-amz-checksum-"
CHUNKS = "berth.chunks"
"""The key of the chunks' signatures in the WSGI environment."""
SIGNATURE = "x-amz-trailer-signature"
LONGEST_LINE = 16 * 1024
BLOCK = 1024 * 1024
"""Bytes of a body that are read at a time."""


class Hash(Protocol):
    """A checksum with hashlib's interface."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """The checksum of all bytes."""


class Crc32:
    """CRC-32 with hashlib's interface."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        self._value = binascii.crc32(data, self._value)

    def digest(self) -> bytes:
        """Four bytes, most significant first."""
        return self._value.to_bytes(4, "big")


HASHES: dict[str, Callable[[], Hash]] = {
    "crc32": Crc32,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}
"""Algorithms that are verified; for others (CRC-32C, CRC-64), the client's value is stored."""


class ChunkSignatures:
    """The signatures of a body's chunks: each covers the one before it.

    Args:
        signer: the request's signer.
        seed: the request's own signature.
    """

    def __init__(self, signer: Signer, seed: str) -> None:
        self._signer, self._last = signer, seed

    def check(self, extension: bytes, hashed: str) -> None:
        """Check a chunk's signature, from its extension and the SHA-256 of its bytes.

        Raises:
            ServiceError: the signature does not match.
        """
        name, _, given = extension.decode("latin-1").strip().partition("=")
        computed = self._signer.chunk(self._last, hashed)
        if name != "chunk-signature" or not same([computed], given):
            raise _unsigned("chunk")
        self._last = computed

    def check_trailer(self, lines: bytes, given: str) -> None:
        """Check the headers after the last chunk.

        Raises:
            ServiceError: the signature does not match.
        """
        if not same([self._signer.trailer(self._last, lines)], given):
            raise _unsigned("trailer")


class Upload:
    """A body, which can be iterated once; afterwards `checksums` is complete.

    Args:
        stream: the body.
        headers: the request's headers, by lower-case name.
        chunks: the signatures of its chunks; None if they are not signed.

    Attributes:
        checksums: algorithm → base64, from the headers or the trailer; computed if the client only
            named an algorithm.
    """

    def __init__(
        self,
        stream: IO[bytes],
        headers: Mapping[str, str],
        chunks: ChunkSignatures | None = None,
    ) -> None:
        self._stream, self._chunks = stream, chunks
        payload = headers.get("x-amz-content-sha256", "")
        framed = payload.startswith(STREAMING)
        self._framed = framed or "aws-chunked" in headers.get("content-encoding", "")
        self._payload = None if framed or payload in ("", UNSIGNED) else payload
        length = headers.get("x-amz-decoded-content-length" if self._framed else "content-length")
        self._length = int(length) if length else None
        self._md5 = headers.get("content-md5")
        self.checksums = {
            name.lower().removeprefix(CHECKSUM): value
            for name, value in headers.items()
            if name.lower().startswith(CHECKSUM)
            and name.lower() not in (f"{CHECKSUM}type", f"{CHECKSUM}algorithm", f"{CHECKSUM}mode")
        }
        trailer = headers.get("x-amz-trailer", "").lower().removeprefix(CHECKSUM)
        named = headers.get("x-amz-sdk-checksum-algorithm", "").lower()
        wanted = {trailer, named, *self.checksums} & HASHES.keys()
        self._hashes = {algorithm: HASHES[algorithm]() for algorithm in wanted}
        if self._md5:
            self._hashes["md5"] = hashlib.md5(usedforsecurity=False)
        if self._payload is not None:
            self._hashes[PAYLOAD] = hashlib.sha256()

    @classmethod
    def of(cls, environ: dict[str, Any]) -> "Upload":
        """The body of a WSGI request."""
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        if environ.get("CONTENT_LENGTH"):
            headers["content-length"] = environ["CONTENT_LENGTH"]
        return cls(environ["wsgi.input"], headers, environ.get(CHUNKS))

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes.

        Raises:
            ServiceError: IncompleteBody; BadDigest or XAmzContentSHA256Mismatch if a hash differs.
        """
        size = 0
        for block in self._framed_blocks() if self._framed else self._plain_blocks():
            size += len(block)
            for hashing in self._hashes.values():
                hashing.update(block)
            yield block
        if self._length is not None and size != self._length:
            raise incomplete(f"the body has {size} bytes, its headers promise {self._length}")
        self._verify()

    def _plain_blocks(self) -> Iterator[bytes]:
        while block := self._stream.read(BLOCK):
            yield block

    def _framed_blocks(self) -> Iterator[bytes]:
        """Chunks `<hex size>[;chunk-signature=…]\\r\\n<bytes>\\r\\n`, the last one empty."""
        while True:
            line = self._line()
            size, _, extension = line.partition(b";")
            try:
                remaining = int(size, 16)
            except ValueError:
                raise incomplete(f"expected a chunk's size, found {line[:40]!r}") from None
            hashing = hashlib.sha256()
            last = remaining == 0
            while remaining > 0:
                block = self._stream.read(min(BLOCK, remaining))
                if not block:
                    raise incomplete("the body ends inside a chunk")
                remaining -= len(block)
                if self._chunks is not None:
                    hashing.update(block)
                yield block
            if self._chunks is not None:
                self._chunks.check(extension, hashing.hexdigest())
            if last:
                self._read_trailers()
                return
            self._line()

    def _read_trailers(self) -> None:
        signed, given = b"", None
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            name, value = name.strip().lower(), value.strip()
            if name == SIGNATURE:
                given = value
                continue
            signed += f"{name}:{value}\n".encode("latin-1")
            if name.startswith(CHECKSUM):
                self.checksums[name.removeprefix(CHECKSUM)] = value
        if self._chunks is not None and signed:
            self._chunks.check_trailer(signed, given or "")

    def _line(self) -> bytes:
        return self._stream.readline(LONGEST_LINE).rstrip(b"\r\n")

    def _verify(self) -> None:
        for algorithm, hashing in self._hashes.items():
            if algorithm == PAYLOAD:
                if hashing.digest().hex() != self._payload:
                    raise ServiceError(
                        "XAmzContentSHA256Mismatch",
                        "The provided 'x-amz-content-sha256' header does not match what was "
                        "computed.",
                    )
                continue
            found = base64.b64encode(hashing.digest()).decode()
            if algorithm == "md5":
                expected: str | None = self._md5
            else:
                expected = self.checksums.setdefault(algorithm, found)
            if found != expected:
                raise ServiceError(
                    "BadDigest",
                    f"The {algorithm} of the body is {found}, its headers say {expected}.",
                )


def incomplete(what: str) -> ServiceError:
    """The error for a body that is truncated or not valid `aws-chunked`."""
    return ServiceError("IncompleteBody", f"The request's body is not whole: {what}.")


def _unsigned(part: str) -> ServiceError:
    return ServiceError(
        "SignatureDoesNotMatch",
        f"The signature of a {part} of the body does not match the signature you provided.",
        403,
    )
