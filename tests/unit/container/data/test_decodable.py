"""Files that an earlier job decoded are read but not decoded again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from container.data import decodable
from container.data.decodable import DecodableFiles
from container.data.index import content_digest
from container.data.lint import lint
from container.data.splits import Splits, find_splits
from container.images.checking import Checker


@pytest.fixture
def splits(make_folder: Callable[..., Path]) -> Splits:
    folder = make_folder({"ants": 4, "bees": 4, "cats": 1}, side=(9, 12))
    (folder / "ants" / "bad.jpg").write_bytes(b"no picture")
    return find_splits({"train": folder}, 0.25, seed=0)


def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    check = Checker.check

    def counting(self: Any, data: bytes, name: str) -> None:
        names.append(name)
        check(self, data, name)

    monkeypatch.setattr(Checker, "check", counting)
    return names


def test_only_unknown_files_are_decoded(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = checked(monkeypatch)
    files = DecodableFiles(tmp_path / "cache" / "decodable.bin")
    clean = lint(splits, on_bad_image="skip", report=lambda _line: None, known=files)
    assert len(names) == 10
    files.add(index for _, index in clean.items())
    assert len(files) == 9

    again = DecodableFiles(tmp_path / "cache" / "decodable.bin")
    assert content_digest(clean.train.read(0)) in again
    del names[:]
    lines: list[str] = []
    found = lint(splits, on_bad_image="skip", report=lines.append, known=again)
    assert [Path(name).name for name in names] == ["bad.jpg"], "a bad file is looked at again"
    assert any("bad.jpg" in line for line in lines)
    assert found.train.paths == clean.train.paths
    assert (found.train.digests == clean.train.digests).all()

    channel = DecodableFiles(None, [tmp_path / "cache" / "decodable.bin", tmp_path / "missing"])
    assert len(channel) == 9
    channel.add([clean.train])


@pytest.mark.parametrize("content", [b"", b"decoded by pillow=0\n" + bytes(16), b"junk" * 99])
def test_a_missing_file_or_one_of_another_decoder_is_ignored(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "decodable.bin"
    path.write_bytes(content)
    assert len(DecodableFiles(path)) == 0


def test_the_number_of_digests_is_limited(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decodable, "MOST", 5)
    clean = lint(splits, on_bad_image="skip", report=lambda _line: None)
    DecodableFiles(tmp_path / "decodable.bin").add(index for _, index in clean.items())
    assert not (tmp_path / "decodable.bin").exists()
