import gzip
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from container.monitoring.profiler.recorder.operators import (
    MOST_OPERATORS,
    OperatorProfile,
    operator_table,
)
from tests.unit.container.monitoring.profiler.smdebug_readers import framework_events


def train(profile: OperatorProfile | None, steps: int, first: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for step in range(first, first + steps):
        if profile is not None:
            profile.step(step)
        optimizer.zero_grad()
        network(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()
    return network.state_dict()


def read(root: Path, rank: int = 0) -> dict[str, Any]:
    path = root / "framework" / "torch" / f"algo-1-rank{rank}-operators.json"
    return json.loads(path.read_text())


def test_table_and_trace_of_the_steps(tmp_path: Path) -> None:
    profile = OperatorProfile(tmp_path, "algo-1", 2, range(3, 6))
    train(profile, 10)
    found = read(tmp_path, rank=2)
    assert (found["host"], found["rank"], found["steps"]) == ("algo-1", 2, [3, 4, 5])
    rows = {row["name"]: row for row in found["operators"]}
    assert rows["aten::addmm"]["calls"] == 6  # two layers, three steps
    assert {row["device"] for row in found["operators"]} == {"cpu"}
    times = [row["self_time"] for row in found["operators"]]
    assert times == sorted(times, reverse=True)
    assert all(0 < row["self_time"] <= row["total_time"] < 60 for row in found["operators"])
    assert len(times) <= MOST_OPERATORS
    trace = tmp_path / "framework" / "torch" / "algo-1-rank2-trace.json.gz"
    entries = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {entry["name"] for entry in entries}
    assert {"aten::addmm", "ProfilerStep#1"} <= names
    assert sorted(path.name for path in trace.parent.iterdir()) == [
        "algo-1-rank2-operators.json",
        "algo-1-rank2-trace.json.gz",
    ]
    profile.close()


def test_results_are_the_same(tmp_path: Path) -> None:
    profiled = train(OperatorProfile(tmp_path, "algo-1", 0, range(2, 4)), 6)
    assert read(tmp_path)["steps"] == [2, 3]
    for name, values in train(None, 6).items():
        assert torch.equal(values, profiled[name])


def test_the_first_steps_can_be_profiled(tmp_path: Path) -> None:
    train(OperatorProfile(tmp_path, "algo-1", 0, range(2)), 4)
    assert read(tmp_path)["steps"] == [0, 1]


def test_a_run_that_resumes_within_the_steps(tmp_path: Path) -> None:
    train(OperatorProfile(tmp_path, "algo-1", 0, range(3, 6)), 5, first=4)
    assert read(tmp_path)["steps"] == [4, 5]


@pytest.mark.parametrize("end", ["close", "pause"])
def test_steps_interrupted_during_profiling(tmp_path: Path, end: str) -> None:
    profile = OperatorProfile(tmp_path, "algo-1", 0, range(3, 100))
    train(profile, 5)
    getattr(profile, end)()
    assert read(tmp_path)["steps"] == [3, 4]
    before = read(tmp_path)
    train(profile, 2, first=5)
    profile.close()
    assert read(tmp_path) == before


@pytest.mark.parametrize("steps", [range(0), range(50, 53), range(4, 7)])
def test_nothing_is_written_where_no_step_was_reached(tmp_path: Path, steps: range) -> None:
    profile = OperatorProfile(tmp_path, "algo-1", 0, steps)
    train(profile, 4)
    profile.close()
    profile.close()
    assert list(tmp_path.rglob("*")) == []


def test_an_evaluation_after_the_warm_up_does_not_end_it(tmp_path: Path) -> None:
    profile = OperatorProfile(tmp_path, "algo-1", 0, range(4, 6))
    train(profile, 4)
    profile.pause()
    train(profile, 4, first=4)
    profile.close()
    assert read(tmp_path)["steps"] == [4, 5]


def test_an_error_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "framework").write_text("a file in its place")
    said: list[str] = []
    profile = OperatorProfile(tmp_path, "algo-1", 0, range(1, 3), said.append)
    train(profile, 6)
    profile.close()
    assert len(said) == 1
    assert said[0].startswith("the profiler records no operators: ")


def test_smdebugs_reader_ignores_the_files(tmp_path: Path) -> None:
    train(OperatorProfile(tmp_path, "algo-1", 0, range(1, 2)), 3)
    assert framework_events(tmp_path) == []


def row(key: str, kind: str = "CPU", own: float = 0, device: float = 0) -> Any:
    return SimpleNamespace(
        key=key,
        device_type=SimpleNamespace(name=kind),
        count=2,
        self_cpu_time_total=own,
        cpu_time_total=2 * own,
        self_device_time_total=device,
        device_time_total=3 * device,
    )


def test_operators_on_a_gpu_have_the_time_of_their_kernels() -> None:
    averages = [
        row("ProfilerStep*", own=9000),
        row("aten::conv2d", own=500, device=4000),
        row("aten::relu", own=700, device=100),
        row("cudaLaunchKernel", own=100),
        row("implicit_convolve_sgemm", "CUDA", device=4000),
    ]
    found = operator_table(averages)
    assert [(r["device"], r["name"]) for r in found] == [
        ("cpu", "aten::relu"),
        ("cpu", "aten::conv2d"),
        ("cpu", "cudaLaunchKernel"),
        ("cuda", "aten::conv2d"),
        ("cuda", "aten::relu"),
    ]
    assert found[3] == {
        "device": "cuda",
        "name": "aten::conv2d",
        "calls": 2,
        "self_time": 0.004,
        "total_time": 0.012,
    }


def test_only_the_most_expensive_are_listed() -> None:
    averages = [row(f"op{n}", own=n, device=n) for n in range(200)]
    found = operator_table(averages)
    assert len(found) == 2 * MOST_OPERATORS
    assert found[0]["name"] == found[MOST_OPERATORS]["name"] == "op199"


def test_torch_is_imported_only_to_profile_operators() -> None:
    code = (
        "import sys, container.monitoring.profiler.recorder.operators; "
        "import container.monitoring.profiler.recorder.timeline, "
        "container.monitoring.profiler.settings, container.monitoring.profiler.recorder.sampler; "
        "print([m for m in ('torch', 'smdebug', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
