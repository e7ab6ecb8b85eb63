"""Features as a job's model, and the contents of a features channel."""

import tarfile
from pathlib import Path

import pytest

from container.errors import FeatureError
from container.features.output import find_channel, write_features


def entry(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "features.json").write_text("{}")
    (folder / "features.bin").write_bytes(b"values")
    return folder


def test_a_model_may_be_a_channel_at_any_depth_or_packed(tmp_path: Path) -> None:
    decodable = tmp_path / "cache" / "decodable.bin"
    kept = entry(tmp_path / "cache" / "key")
    decodable.write_bytes(b"")
    write_features([kept, decodable, tmp_path / "cache" / "missing"], tmp_path / "model")
    model = tmp_path / "model"
    assert sorted(path.name for path in (model / "features").iterdir()) == ["decodable.bin", "key"]
    assert find_channel(model, tmp_path / "unpacked") == model / "features"
    assert find_channel(model / "features", tmp_path / "unpacked") == model / "features"

    channel = tmp_path / "channel"
    (channel / "job" / "output").mkdir(parents=True)
    with tarfile.open(channel / "job" / "output" / "model.tar.gz", "w:gz") as archive:
        archive.add(model, arcname=".")
    found = find_channel(channel, tmp_path / "unpacked")
    assert found == tmp_path / "unpacked" / "features"
    assert (found / "key" / "features.bin").read_bytes() == b"values"


def test_no_channel(tmp_path: Path) -> None:
    assert find_channel(None, tmp_path) is None


def test_a_channel_without_features_is_refused(tmp_path: Path) -> None:
    (tmp_path / "channel").mkdir()
    (tmp_path / "channel" / "model.safetensors").write_text("")
    with pytest.raises(FeatureError, match=r"found model.safetensors, expected the output"):
        find_channel(tmp_path / "channel", tmp_path / "unpacked")


@pytest.mark.parametrize("kind", ["cut short", "leads out"])
def test_a_damaged_archive_is_refused(tmp_path: Path, kind: str) -> None:
    channel, into = tmp_path / "channel", tmp_path / "unpacked"
    entry(tmp_path / "model" / "key")
    channel.mkdir()
    archive = channel / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        name = "../../outside" if kind == "leads out" else "."
        tar.add(tmp_path / "model", arcname=name)
    if kind == "cut short":
        archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(FeatureError, match=r"channel 'features': .*model\.tar\.gz: "):
        find_channel(channel, into)
    assert not into.exists()
    assert not (tmp_path / "outside").exists()
