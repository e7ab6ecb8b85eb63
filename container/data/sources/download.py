"""Downloads a large file, resuming an interrupted download."""

import time
from pathlib import Path

import requests

from container.errors import DataError
from container.files.progress import ProgressBar

_BLOCK = 1 << 14  # lost at most when the connection is cut
_TIMEOUT = (10, 60)
_ATTEMPTS = 5


def download(url: str, target: Path, *, max_bytes: int, pause: float = 1.0) -> None:
    """Download `url` to `target`, through `target`.part, which a later call resumes.

    A lost connection is resumed at once. After an attempt without any bytes it pauses for `pause`
    seconds, doubled each time, and gives up after five in a row. Raises DataError if the server
    refuses, the file is larger than `max_bytes`, or the connection keeps failing.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    fruitless = 0
    while True:
        before = _size(part)
        try:
            _fetch(url, part, max_bytes)
            break
        except requests.RequestException as error:
            if isinstance(error, ValueError):
                raise DataError(f"{url}: {error}, expected an http or https address") from error
            if _size(part) > before:
                fruitless = 0
                continue
            fruitless += 1
            if fruitless == _ATTEMPTS:
                raise DataError(
                    f"{url}: the connection keeps failing ({type(error).__name__}); "
                    f"{_size(part):,} bytes are kept, and the next run resumes the download"
                ) from error
            time.sleep(pause * 2**fruitless)
    part.replace(target)
    _tag(part).unlink(missing_ok=True)


def _fetch(url: str, part: Path, max_bytes: int) -> None:
    """Request the missing range; return when `part` is complete."""
    tag = _tag(part).read_text() if _tag(part).exists() else ""
    have = _size(part) if tag else 0
    # Offsets count encoded bytes, and a range is valid only while the file is unchanged.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            # The file has shrunk: start over.
            _tag(part).unlink(missing_ok=True)
            raise requests.ConnectionError("range refused")
        if 500 <= response.status_code < 600:
            raise requests.HTTPError(f"HTTP {response.status_code}")
        if not response.ok:
            raise DataError(f"{url}: found HTTP {response.status_code}, expected the file")
        resumed = response.status_code == requests.codes.partial_content
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise DataError(f"{url}: the server sent another range than requested")
        have = have if resumed else 0
        length = int(response.headers.get("Content-Length", 0))
        if have + length > max_bytes:
            raise DataError(f"{url}: {have + length:,} bytes, expected at most {max_bytes:,}")
        _tag(part).write_text(_validator(response))
        with (
            part.open("ab" if resumed else "wb") as file,
            ProgressBar(f"downloading {part.stem}", have + length, unit="B", done=have) as progress,
        ):
            for block in response.iter_content(_BLOCK):
                have += len(block)
                if have > max_bytes:
                    raise DataError(f"{url}: more than {max_bytes:,} bytes")
                file.write(block)
                progress.advance(len(block))


def _validator(response: requests.Response) -> str:
    """The validator of this version of the file; empty if there is none, and nothing can resume."""
    etag = str(response.headers.get("ETag", ""))
    # A weak tag may stay the same while the bytes change (RFC 9110, section 13.1.5).
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
