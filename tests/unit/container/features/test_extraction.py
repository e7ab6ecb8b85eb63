"""Features equal the backbone's output, are computed once, and never change silently."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from container.data.index import Index
from container.errors import DataError, FeatureError, TrainingError
from container.features import key as keys
from container.features import store
from container.features.backbone import headless
from container.features.extraction import FeatureExtractor
from container.features.key import View
from container.training.checkpoint import Interrupted
from tests.unit.container.features import tiny


@pytest.fixture
def index(make_folder: Callable[..., Path]) -> Index:
    return Index.from_folder(make_folder({"ants": 70, "bees": 80}, side=(9, 12)))


@pytest.fixture
def said() -> list[str]:
    return []


def entry(root: Path) -> Path:
    (found,) = (path.parent for path in root.glob("*/features.json"))
    return found


def by_hand(extractor: FeatureExtractor, index: Index) -> np.ndarray:
    loaded = [extractor.geometry.load(index.read(at)) for at in range(len(index))]
    with headless(extractor.classifier, tiny.HEAD) as backbone, torch.inference_mode():
        return backbone(torch.from_numpy(np.stack(loaded))).numpy()


def test_features_equal_the_heads_input(tmp_path: Path, index: Index, said: list[str]) -> None:
    extractor = tiny.extractor(tmp_path, said)
    features = extractor.extract(index)
    assert features.values.shape == (150, tiny.WIDTH)
    assert features.values.dtype == np.float32
    assert not features.values.flags.writeable
    np.testing.assert_allclose(features.values, by_hand(extractor, index), atol=1e-5)
    np.testing.assert_array_equal(features.labels, index.labels)
    assert said == ["features of train images: 150 x 6 float32 by PyTorch on cpu"]


def test_the_classifier_is_restored(tmp_path: Path, index: Index, said: list[str]) -> None:
    extractor = tiny.extractor(tmp_path, said)
    before = {name: value.clone() for name, value in extractor.classifier.state_dict().items()}
    training = extractor.classifier.training
    features = extractor.extract(index)
    after = extractor.classifier.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert extractor.classifier.training == training
    head = extractor.classifier.network.get_submodule(tiny.HEAD)
    pixels = torch.from_numpy(extractor.geometry.load(index.read(3)))[None]
    logits = head(torch.tensor(features.values[3:4]))
    with torch.inference_mode():
        whole = extractor.classifier.eval()(pixels)
    torch.testing.assert_close(logits.softmax(1), whole)


def test_views_differ_and_are_repeatable(tmp_path: Path, index: Index, said: list[str]) -> None:
    one = tiny.extractor(tmp_path / "one", said)
    views = [one.extract(index, View("strong", 0, number)).values for number in range(2)]
    assert not np.allclose(views[0], views[1])
    again = tiny.extractor(tmp_path / "two", said)
    np.testing.assert_array_equal(again.extract(index, View("strong", 0, 1)).values, views[1])
    other = tiny.extractor(tmp_path / "two", said).extract(index, View("strong", 7, 1))
    assert not np.allclose(other.values, views[1])


def test_several_backbones_share_a_cache(tmp_path: Path, index: Index, said: list[str]) -> None:
    first = tiny.extractor(tmp_path, said, seed=0).extract(index)
    second = tiny.extractor(tmp_path, said, seed=1).extract(index)
    assert not np.allclose(first.values, second.values)
    assert len(list(tmp_path.glob("*/features.json"))) == 2
    tiny.extractor(tmp_path, said, seed=0).extract(index)
    assert len(said) == 2, "the third time nothing is computed"


def test_a_changed_picture_or_label_makes_another_data_set(
    tmp_path: Path, index: Index, said: list[str]
) -> None:
    extractor = tiny.extractor(tmp_path, said)
    name = extractor.key(index).name
    assert extractor.key(index).name == name
    assert extractor.key(replace(index, labels=1 - index.labels)).name != name
    index.file(5).write_bytes(index.read(6))
    assert extractor.key(index).name != name


def interrupted(root: Path, index: Index, after: int) -> list[str]:
    """Stop a job after it computed `after` shards of features."""
    asked = iter(range(after))
    said: list[str] = []
    stopped = tiny.extractor(root, said, stopped=lambda: next(asked, None) is None)
    with pytest.raises(Interrupted, match="features of train images; finished shards are kept"):
        stopped.extract(index)
    assert not list(root.glob("*/features.json"))
    return said


def test_an_interrupted_pass_resumes_after_the_last_finished_shard(
    tmp_path: Path, index: Index, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.extractor(tmp_path / "whole", said).extract(index).values
    interrupted(tmp_path / "cache", index, after=1)
    (partial,) = (tmp_path / "cache").glob("*.partial")
    with (partial / "shards-0.jsonl").open("a") as log:
        log.write('[2, "0')  # killed while it wrote the line
    computed: list[int] = []
    write = store.FeatureDraft.write

    def counting(self: Any, shard: int, *rest: Any) -> str:
        computed.append(shard)
        return write(self, shard, *rest)

    monkeypatch.setattr(store.FeatureDraft, "write", counting)
    del said[:]
    features = tiny.extractor(tmp_path / "cache", said).extract(index)
    assert computed == [2]
    assert said[0] == "features of train images: 2 of 3 shards exist already"
    np.testing.assert_array_equal(features.values, whole)
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_a_shard_damaged_before_the_end_is_computed_again(
    tmp_path: Path, index: Index, said: list[str]
) -> None:
    whole = tiny.extractor(tmp_path / "whole", said).extract(index).values
    interrupted(tmp_path / "cache", index, after=1)
    (values,) = (tmp_path / "cache").glob("*.partial/features.bin")
    with values.open("r+b") as file:
        file.write(b"\xff\xff")
    features = tiny.extractor(tmp_path / "cache", said).extract(index)
    assert said[-2] == "features of train images: 1 of 3 shards exist already"
    np.testing.assert_array_equal(features.values, whole)


def truncate(folder: Path) -> None:
    os.truncate(folder / "features.bin", 1000)


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "features.bin").read_bytes())
    content[100] ^= 1
    (folder / "features.bin").write_bytes(content)


def rewrite(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "features.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def no_values(folder: Path) -> None:
    (folder / "features.bin").unlink()


def cut_description(folder: Path) -> None:
    (folder / "features.json").write_text('{"format": 1, "parts')


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (truncate, "found 1,000 bytes, expected 3,600: computing it again"),
        (flip_a_byte, "shard 0 does not match its checksum: computing it again"),
        (no_values, "found 0 bytes, expected 3,600: computing it again"),
        (cut_description, "features.json: expected a JSON object, found"),
        (rewrite(format=99), "format 99, expected 1; it was written by another version"),
        (rewrite(parts={}), "its parts are not those of its key: computing it again"),
        (rewrite(shards=[]), "shards: expected 3 checksums: computing it again"),
    ],
)
def test_damage_is_logged_and_repaired(
    tmp_path: Path, index: Index, said: list[str], damage: Callable[[Path], None], line: str
) -> None:
    whole = np.array(tiny.extractor(tmp_path, said).extract(index).values)
    damage(entry(tmp_path))
    del said[:]
    features = tiny.extractor(tmp_path, said).extract(index)
    assert line in said[0]
    assert len(said) == 2
    np.testing.assert_array_equal(features.values, whole)
    del said[:]
    tiny.extractor(tmp_path, said).extract(index)
    assert said == []


def test_damaged_features_in_a_channel_are_refused(
    tmp_path: Path, index: Index, said: list[str]
) -> None:
    tiny.extractor(tmp_path / "channel", said).extract(index)
    flip_a_byte(entry(tmp_path / "channel"))
    given = tiny.extractor(tmp_path / "own", said, channel=tmp_path / "channel")
    with pytest.raises(FeatureError, match="shard 0 does not match its checksum"):
        given.extract(index)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 1}, "found features of other weights of the backbone; expected those of 150"),
        ({"view": View("standard", 0, 0)}, "found features of another augmented view"),
        ({"index": slice(1, None)}, "found features of another data set"),
    ],
)
def test_a_channel_with_other_features_is_refused_and_the_differences_are_named(
    tmp_path: Path, index: Index, said: list[str], change: dict[str, Any], line: str
) -> None:
    tiny.extractor(tmp_path / "channel", said).extract(index)
    given = tiny.extractor(
        tmp_path / "own", said, change.get("seed", 0), channel=tmp_path / "channel"
    )
    positions = np.arange(len(index))[change.get("index", slice(None))]
    with pytest.raises(FeatureError, match=line):
        given.extract(index.take(positions), change.get("view"))


@pytest.mark.parametrize("where", ["posix_fallocate", "pwrite"])
def test_a_full_disk_is_reported_in_one_line(
    tmp_path: Path, index: Index, said: list[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(TrainingError, match="disk full: .* could not be written"):
        tiny.extractor(tmp_path, said).extract(index)
    assert not list(tmp_path.glob("*/features.json"))


def test_large_sets_are_kept_in_float16(
    tmp_path: Path, index: Index, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = tiny.extractor(tmp_path, said).extract(index).values
    monkeypatch.setattr(keys, "LARGEST_FLOAT32", 150 * tiny.WIDTH * 4 - 1)
    features = tiny.extractor(tmp_path, said).extract(index)
    assert features.values.dtype == np.float16
    assert "150 x 6 float16" in said[-1]
    np.testing.assert_allclose(features.values, exact, rtol=1e-3)


def test_a_matrix_too_large_for_memory_is_read_row_by_row(
    tmp_path: Path, index: Index, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    advised: list[Any] = []
    monkeypatch.setattr(store, "advise_random", advised.append)
    tiny.extractor(tmp_path, said).extract(index)
    assert advised == []
    monkeypatch.setattr(store, "READ_AHEAD", 150 * tiny.WIDTH * 4 - 1)
    features = tiny.extractor(tmp_path, said).extract(index)
    monkeypatch.undo()
    (mapped,) = advised[-1:]
    store.advise_random(mapped)
    assert features.values.shape == (150, tiny.WIDTH)


def test_features_that_are_not_finite_are_refused(
    tmp_path: Path, index: Index, said: list[str]
) -> None:
    extractor = tiny.extractor(tmp_path, said)
    with torch.no_grad():
        extractor.classifier.network[0].bias.fill_(torch.inf)
    with pytest.raises(FeatureError, match="not finite in float32: check its weights"):
        extractor.extract(index)


def test_a_missing_file_is_named(tmp_path: Path, index: Index, said: list[str]) -> None:
    extractor = tiny.extractor(tmp_path, said)
    extractor.key(index)
    index.file(149).unlink()
    with pytest.raises(DataError, match=r"bees/079\.jpg: cannot be read"):
        extractor.extract(index)


MEMORY = """
import resource, sys
import numpy as np
from container.data.order import EpochOrder
from container.features.extraction import Features
from container.features.loader import FeatureLoader

path, count, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
values = np.memmap(path, np.float16, mode="r", shape=(count, width))
features = Features(values, np.zeros(count, dtype=np.int64), None)

limit = int(sys.argv[4])
(used,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, ((int(used) << 10) + limit,) * 2)
seen = 0
for images, _ in FeatureLoader([features], EpochOrder(count, 32, 0, train=True)).batches(0):
    seen += len(images)
print(seen)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux only")
def test_an_epoch_of_a_set_larger_than_memory_reads_the_memory_map(tmp_path: Path) -> None:
    count, width = 40_000, 1280
    path = tmp_path / "features.bin"
    with path.open("wb") as file:
        file.truncate(count * width * 2)
    limit = 16 << 20
    assert path.stat().st_size > 6 * limit
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(count), str(width), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == count
