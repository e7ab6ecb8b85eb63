from pathlib import Path

import psutil
import pytest

from container.memory import available_memory

GIGABYTE = 1 << 30


def write(folder: Path, **values: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(value)
    return folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine with eight gigabytes available."""
    found = psutil.virtual_memory()._replace(available=8 * GIGABYTE)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)


@pytest.mark.usefixtures("machine")
class TestCgroups:
    def test_without_cgroups_the_machines_memory_is_available(self, tmp_path: Path) -> None:
        assert available_memory(tmp_path) == 8 * GIGABYTE

    def test_version_2_without_a_limit(self, tmp_path: Path) -> None:
        write(tmp_path, memory__max="max\n", memory__current="5\n", memory__stat="anon 5\n")
        assert available_memory(tmp_path) == 8 * GIGABYTE

    def test_version_2_used_memory_without_cached_files_is_subtracted(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            memory__max=f"{4 * GIGABYTE}\n",
            memory__current=f"{3 * GIGABYTE}\n",
            memory__stat=f"anon 5\ninactive_file {GIGABYTE}\n",
        )
        assert available_memory(tmp_path) == 2 * GIGABYTE

    def test_version_1(self, tmp_path: Path) -> None:
        write(
            tmp_path / "memory",
            memory__limit_in_bytes=str(2 * GIGABYTE),
            memory__usage_in_bytes=str(GIGABYTE),
            memory__stat="total_inactive_file 1000\n",
        )
        assert available_memory(tmp_path) == GIGABYTE + 1000

    def test_a_limit_above_the_machine(self, tmp_path: Path) -> None:
        write(
            tmp_path, memory__max=str(1 << 60), memory__current="0", memory__stat="inactive_file 0"
        )
        assert available_memory(tmp_path) == 8 * GIGABYTE

    def test_available_memory_is_never_negative(self, tmp_path: Path) -> None:
        write(tmp_path, memory__max="10", memory__current="20", memory__stat="inactive_file 0")
        assert available_memory(tmp_path) == 0
