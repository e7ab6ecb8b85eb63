import json
import os
import time
from pathlib import Path

import pytest

from container.monitoring.profiler.recorder.machine import Metric
from container.monitoring.profiler.recorder.sampler import MetricsFile
from tests.unit.container.monitoring.profiler.smdebug_readers import frames, system_events

MINUTE = 1_790_000_000 // 60 * 60
CPU = Metric("cpu", "cpu0", "CPUUtilization", 4.7649)
MEMORY = Metric("memory", "MemoryUsedPercent", "", 61.0)


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.json"))


def test_a_line_has_sagemakers_format(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, "algo-2")
    file.write([CPU, MEMORY], MINUTE + 1.5)
    (path,) = files(tmp_path)
    hour = time.strftime("%Y%m%d%H", time.gmtime(MINUTE))
    assert path.relative_to(tmp_path) == Path("system/incremental", hour, f"{MINUTE}.algo-2.json")
    assert path.read_text() == (
        '{"Type":"cpu","Name":"cpu0","Dimension":"CPUUtilization","Value":4.76,'
        f'"NodeId":"algo-2","Timestamp":{MINUTE + 1}.500000}}\n'
        '{"Type":"memory","Name":"MemoryUsedPercent","Dimension":"","Value":61.0,'
        f'"NodeId":"algo-2","Timestamp":{MINUTE + 1}.500000}}\n'
    )
    file.close()
    file.close()


def test_smdebug_reads_the_files_of_several_hosts(tmp_path: Path) -> None:
    for host in ("algo-1", "algo-2"):
        file = MetricsFile(tmp_path, host)
        for second in range(0, 180, 20):
            file.write([CPU, MEMORY], MINUTE + second)
        file.close()
    assert len(files(tmp_path)) == 6
    found = system_events(tmp_path)
    assert len(found) == 36
    assert {(e.type, e.name, e.dimension, e.value, e.node_id) for e in found} == {
        (kind, name, dimension, round(value, 2), host)
        for kind, name, dimension, value in (CPU, MEMORY)
        for host in ("algo-1", "algo-2")
    }
    assert {e.timestamp for e in found} == {float(MINUTE + second) for second in range(0, 180, 20)}
    system, _ = frames(tmp_path)
    assert set(system["nodeID"]) == {"algo-1", "algo-2"}
    assert len(system) == 36


def test_a_new_hour_is_a_new_folder(tmp_path: Path) -> None:
    hour = MINUTE // 3600 * 3600
    file = MetricsFile(tmp_path, "algo-1")
    file.write([CPU], hour - 0.5)
    file.write([CPU], hour + 0.0)
    file.close()
    assert [p.parent.name for p in files(tmp_path)] == [
        time.strftime("%Y%m%d%H", time.gmtime(moment)) for moment in (hour - 60, hour)
    ]
    assert [p.name for p in files(tmp_path)] == [f"{hour - 60}.algo-1.json", f"{hour}.algo-1.json"]


def test_a_clock_set_back_appends_to_the_earlier_file(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, "algo-1")
    for moment in (0, 70, 10, 80):
        file.write([CPU], MINUTE + moment)
    file.close()
    lines = [path.read_text().splitlines() for path in files(tmp_path)]
    times = [[json.loads(line)["Timestamp"] - MINUTE for line in each] for each in lines]
    assert times == [[0, 10], [70, 80]]
    assert len(system_events(tmp_path)) == 4


def test_a_resumed_job_appends_to_its_files(tmp_path: Path) -> None:
    for second in (1, 2):
        file = MetricsFile(tmp_path, "algo-1")
        file.write([CPU], MINUTE + second)
        file.close()
    assert len(system_events(tmp_path)) == 2


def test_a_truncated_file_is_still_read(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path, "algo-1")
    file.write([CPU, CPU, MEMORY], MINUTE)
    file.close()
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    assert len(system_events(tmp_path)) == 2


def test_a_sample_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MetricsFile(tmp_path, "algo-1")
    file.write([CPU], MINUTE)
    real = os.write
    writes: list[bytes] = []

    def write(file: int, data: bytes) -> int:
        writes.append(data)
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    file.write([CPU] * 100, MINUTE + 1)
    assert [data.count(b"\n") for data in writes] == [100]
    file.close()
