from dataclasses import replace
from pathlib import Path

from container.artifact import Artifact
from container.images.geometry import Geometry
from serve.models.memory import memory_needed, release_memory
from tests.unit.serve.artifacts import write_artifact

MIB = 1 << 20


def test_weights_count_at_least_twice_and_files_are_not_read(artifact: Artifact) -> None:
    before = memory_needed(artifact, 2)
    with (artifact.path / "openvino" / "model.bin").open("ab") as file:
        file.truncate(100 << 30)  # A sparse file: reading it would take minutes.
    assert memory_needed(artifact, 2) - before > 200 << 30


def test_a_larger_input_and_more_cores_need_more(artifact: Artifact) -> None:
    large = replace(artifact, geometry=Geometry.from_json({"resize": 448, "crop": 448}))
    assert memory_needed(large, 2) - memory_needed(artifact, 2) > 10 * MIB
    assert memory_needed(large, 16) > memory_needed(large, 4)


def test_the_search_for_the_fastest_precision_loads_them_all(artifact: Artifact) -> None:
    assert memory_needed(artifact, 2, "fastest") == 3 * memory_needed(artifact, 2)


def test_without_an_export_the_weights_are_counted(tmp_path: Path) -> None:
    model = write_artifact(tmp_path / "model", export=False)
    (model / "model.safetensors").write_bytes(bytes(MIB))
    other = write_artifact(tmp_path / "other", export=False)
    more = memory_needed(Artifact.read(model), 2) - memory_needed(Artifact.read(other), 2)
    assert more >= 2 * MIB


def test_memory_is_released_on_any_libc() -> None:
    release_memory()
