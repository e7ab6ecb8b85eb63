from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from container.errors import BadImage
from container.images.checking import Checker
from tests.unit.container.conftest import encoded, picture

DIE = """
import os, signal, sys
import container.images.readers as readers
real = readers.plan
def plan(data, *rest):
    if b"deadly" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(data, *rest)
readers.plan = plan
"""


@pytest.fixture
def checker() -> Iterator[Checker]:
    with Checker() as checker:
        yield checker


def test_reports_the_errors_of_decode(checker: Checker) -> None:
    checker.check(encoded(picture()), "a/1.jpg")
    with pytest.raises(BadImage, match=r"^a/2\.jpg: empty"):
        checker.check(b"", "a/2.jpg")
    with pytest.raises(BadImage, match=r"^a b\.jpg: .*HEIC"):
        checker.check(b"\0\0\0\x18ftypheic" + bytes(20), "a\nb.jpg")
    checker.check(encoded(picture(), "PNG"), "a/3.png")


def test_a_decoder_crash_names_the_file_and_affects_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DIE)
    monkeypatch.syspath_prepend(str(tmp_path))
    good = encoded(picture())
    files = {f"a/{number}.jpg": good for number in range(6)} | {"a/bad.jpg": good + b"deadly"}

    with Checker() as own, ThreadPoolExecutor(2) as threads:

        def outcome(name: str) -> str:
            try:
                own.check(files[name], name)
            except BadImage as error:
                return str(error)
            return ""

        outcomes = dict(zip(files, threads.map(outcome, files), strict=True))
        assert outcome("a/bad.jpg") == "a/bad.jpg: its decoder crashed (SIGSEGV)"
    assert outcomes.pop("a/bad.jpg") == "a/bad.jpg: its decoder crashed (SIGSEGV)"
    assert set(outcomes.values()) == {""}
