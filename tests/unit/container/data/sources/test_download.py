from pathlib import Path

import numpy as np
import pytest

from container.data.sources.download import download
from container.errors import DataError
from tests.unit.container.data.sources.conftest import FileServer

BLOCK = 1 << 14
CONTENT = np.random.default_rng(0).bytes(1_000_000)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "file.zip"


def fetch(server: FileServer, target: Path, max_bytes: int = 2_000_000) -> None:
    download(server.url, target, max_bytes=max_bytes, pause=0)


def ranges(server: FileServer) -> list[None] | list[str | None] | list[str]:
    return [request.get("Range") for request in server.requests]


def only(target: Path) -> bool:
    return [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_complete_download(server: FileServer, target: Path) -> None:
    server.content = CONTENT
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert only(target)


def test_an_existing_file_is_not_downloaded_again(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"here")
    fetch(server, target)
    assert target.read_bytes() == b"here"
    assert server.requests == []


def test_a_lost_connection_is_resumed(server: FileServer, target: Path) -> None:
    server.content, server.cuts = CONTENT, [20 * BLOCK, 10 * BLOCK]
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={20 * BLOCK}-", f"bytes={30 * BLOCK}-"]
    assert only(target)


def test_a_later_run_resumes(server: FileServer, target: Path) -> None:
    server.content, server.cuts = CONTENT, [25 * BLOCK, *[0] * 5]
    with pytest.raises(DataError, match=r"409,600 bytes are kept, and the next run resumes"):
        fetch(server, target)
    assert not target.exists()
    server.requests.clear()
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == ["bytes=409600-"]


def test_a_server_without_ranges_starts_over(server: FileServer, target: Path) -> None:
    server.content, server.cuts, server.ranges = CONTENT, [300_000], False
    fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_a_server_without_validators_starts_over(server: FileServer, target: Path) -> None:
    server.content, server.cuts, server.etag = CONTENT, [300_000], ""
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == [None, None]


def test_a_changed_file_starts_over(server: FileServer, target: Path) -> None:
    server.content, server.cuts = CONTENT, [400_000, *[0] * 5]
    with pytest.raises(DataError):
        fetch(server, target)
    server.content, server.etag = CONTENT[::-1], '"two"'
    fetch(server, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_complete_part_file_is_used(server: FileServer, target: Path) -> None:
    server.content = CONTENT
    target.parent.mkdir()
    target.with_name("file.zip.part").write_bytes(CONTENT)
    target.with_name("file.zip.part.version").write_text('"one"')
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert ranges(server) == ["bytes=1000000-"]


def test_a_shrunken_file_starts_over(server: FileServer, target: Path) -> None:
    server.content = CONTENT[:1000]
    target.parent.mkdir()
    target.with_name("file.zip.part").write_bytes(CONTENT)
    target.with_name("file.zip.part.version").write_text('"one"')
    fetch(server, target)
    assert target.read_bytes() == CONTENT[:1000]


def test_a_too_large_file(server: FileServer, target: Path) -> None:
    server.content = CONTENT
    with pytest.raises(DataError, match="1,000,000 bytes, expected at most 999,999"):
        fetch(server, target, max_bytes=999_999)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_client_error_is_not_retried(status: int, server: FileServer, target: Path) -> None:
    server.status = status
    with pytest.raises(DataError, match=f"found HTTP {status}, expected the file"):
        fetch(server, target)
    assert len(server.requests) == 1


def test_a_server_error_is_retried(server: FileServer, target: Path) -> None:
    server.status = 503
    with pytest.raises(DataError, match="the connection keeps failing"):
        fetch(server, target)
    assert len(server.requests) == 5


def test_an_invalid_url(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected an http or https address"):
        download("nowhere", tmp_path / "x", max_bytes=1, pause=0)
