import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local.client.target import Target
from local.errors import UserError
from local.results import downloads as subject
from local.results.downloads import download_results, find_output, unpack

JOB: dict[str, Any] = {
    "TrainingJobName": "job",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/jobs/"},
    "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/jobs/job/output/model.tar.gz"},
}


def archive(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content))
    return path


def file(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o4777
    return entry, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, b""


def put(target: Target, key: str, path: Path) -> None:
    target.client("s3").upload_file(str(path), "bucket", key)


def test_the_output_of_a_job_is_downloaded(moto_target: Target, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    put(moto_target, "jobs/job/output/model.tar.gz", archive(tmp_path / "m", file("model.json")))
    packed = archive(tmp_path / "o", file("data/evaluation.json", b"{}"), file("data/a/b.png"))
    put(moto_target, "jobs/job/output/output.tar.gz", packed)
    found = download_results(moto_target, JOB, folder)
    assert found == [folder / "model.tar.gz", folder / "output"]
    assert find_output(folder, "evaluation.json") == folder / "output/data/evaluation.json"
    assert find_output(folder, "nothing.json") is None
    put(
        moto_target,
        "jobs/job/output/output.tar.gz",
        archive(tmp_path / "o", file("data/evaluation.json", b"[]")),
    )
    assert download_results(moto_target, JOB, folder, model=False) == [folder / "output"]
    assert not (folder / "output/data/a").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["model.tar.gz", "output"]


def test_missing_outputs_are_skipped(moto_target: Target, tmp_path: Path) -> None:
    assert download_results(moto_target, JOB, tmp_path / "home") == []
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (file("../outside"), "../outside: found an unsafe path"),
        (special("link", tarfile.SYMTYPE, "/etc"), "link: found a link"),
    ],
)
def test_an_archive_is_not_trusted(
    moto_target: Target, tmp_path: Path, entry: tuple[tarfile.TarInfo, bytes], words: str
) -> None:
    packed = archive(tmp_path / "o", file("a"), entry)
    put(moto_target, "jobs/job/output/output.tar.gz", packed)
    folder = tmp_path / "home"
    with pytest.raises(UserError) as refused:
        download_results(moto_target, JOB, folder)
    assert words in str(refused.value)
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_an_archive_above_the_limits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive(tmp_path / "o", file("a", b"x" * 10), file("b", b"x" * 10))
    monkeypatch.setattr(subject, "LARGEST", 15)
    with pytest.raises(UserError, match="b does not fit"):
        unpack(packed, tmp_path / "new")


def test_a_file_that_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "o").write_bytes(b"not a tar")
    with pytest.raises(UserError, match="o: cannot be unpacked"):
        unpack(tmp_path / "o", tmp_path / "new")


def test_a_truncated_archive(tmp_path: Path) -> None:
    packed = archive(tmp_path / "o", file("a", bytes(range(256)) * 400))
    packed.write_bytes(packed.read_bytes()[:200])
    with pytest.raises(UserError, match="o: cannot be unpacked"):
        unpack(packed, tmp_path / "new")


def test_files_are_neither_executable_nor_setuid(tmp_path: Path) -> None:
    unpack(archive(tmp_path / "o", file("a")), tmp_path / "new")
    assert (tmp_path / "new/a").stat().st_mode & 0o7111 == 0
