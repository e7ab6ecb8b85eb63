"""Form uploads, multipart/form-data (RFC 7578), in which each file is an image."""

import io
from typing import IO, Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from container.artifact import Artifact
from serve.errors import BadRequest, one_line
from serve.payloads.images import MAX_INSTANCES, RequestImages, decode

EXPECTED = (
    "expected multipart/form-data; boundary=..., with each image as a file "
    "(curl -F image=@photo.jpg)"
)

MORE_PARTS = 64
"""Parts that a form may have in addition to images."""

MAX_FIELD = 1024 * 1024
"""Most bytes of a part that is not a file; the parser also buffers this much of a file."""


def read_multipart(body: bytes, options: dict[str, str], artifact: Artifact) -> RequestImages:
    """The files of a form, in order; other fields are ignored.

    `options` are the Content-Type's parameters. Raises BadRequest.
    """
    if "boundary" not in options and body.startswith(b"--"):
        # Clients that set the header by hand omit the boundary, but each part begins with it.
        first, _, _ = body[2:200].partition(b"\r\n")
        options = {"boundary": first.decode("latin-1").rstrip()}
    files: list[tuple[str, io.BytesIO]] = []

    def keep(*_: Any, filename: str | None = None, **__: Any) -> IO[bytes]:
        files.append((f"file {one_line(filename or '')[:80]!r}", io.BytesIO()))
        return files[-1][1]

    parser = FormDataParser(
        stream_factory=keep,
        max_form_memory_size=MAX_FIELD,
        max_form_parts=MAX_INSTANCES + MORE_PARTS,
        silent=False,
    )
    try:
        _, fields, _ = parser.parse(io.BytesIO(body), "multipart/form-data", len(body), options)
    except RequestEntityTooLarge:
        raise BadRequest(
            f"multipart/form-data: found more than {MAX_INSTANCES + MORE_PARTS} parts or a text "
            f"field above {MAX_FIELD:,} bytes, {EXPECTED}",
            413,
        ) from None
    # The parser raises various exceptions for malformed headers.
    except Exception as error:
        reason = one_line(str(error)).rstrip(".") or type(error).__name__
        raise BadRequest(f"multipart/form-data: cannot be read ({reason}), {EXPECTED}") from None
    if not files:
        found = (
            f"fields {[one_line(str(name))[:40] for name in list(fields)[:5]]}"
            if fields
            else "none"
        )
        raise BadRequest(f"multipart/form-data: found no file ({found}), {EXPECTED}")
    if len(files) > MAX_INSTANCES:
        raise BadRequest(
            f"multipart/form-data: found {len(files)} files, expected at most {MAX_INSTANCES} in "
            "one request",
            413,
        )
    return RequestImages(
        len(files), (decode(file.getvalue(), name, artifact) for name, file in files)
    )
