"""The profiler on a GPU: NVML's samples, CUDA events' phases, rules and advice."""

import json
from typing import Any

import pytest
from flows import train


@pytest.fixture(scope="module")
def profiled(jobs: Any) -> Any:
    pytest.importorskip("pynvml", reason="nvidia-ml-py")
    return train(jobs(profile="true", profile_interval=100, epochs=10))


@pytest.fixture(scope="module")
def recording(profiled: Any) -> Any:
    pytest.importorskip("pandas", reason="pandas")
    from container.monitoring.profiler.reading import Recording

    return Recording.read(profiled.base / "output" / "data")


@pytest.mark.gpu("NVML samples of use and memory")
def test_nvml(recording: Any, figure: Any) -> None:
    samples = recording.system[recording.system["kind"] == "gpu"]
    assert not samples.empty, recording.problems
    used = samples.groupby("dimension", observed=True)["value"].max()
    assert (used > 0).any(), used
    figure(", ".join(f"{name} to {value:.0f}" for name, value in used.items()))


@pytest.mark.gpu("phases by CUDA events")
def test_phases(recording: Any, figure: Any) -> None:
    there = recording.on_device
    assert {"forward", "backward", "optimizer"} <= set(there["phase"]), set(there["phase"])
    assert (there["duration"] >= 0).all()
    seconds = there.groupby("phase")["duration"].sum()
    figure(", ".join(f"{name} {1000 * value:.0f} ms" for name, value in seconds.items()))


@pytest.mark.gpu("operators on the GPU")
def test_operators(recording: Any, figure: Any) -> None:
    kernels = recording.operators[recording.operators["device"] == "cuda"]
    assert not kernels.empty, set(recording.operators["device"])
    first = kernels.sort_values("self_time", ascending=False).iloc[0]
    figure(f"{len(kernels)} kernels; most time: {str(first['name'])[:40]}")


@pytest.mark.gpu("rules that look at GPUs")
def test_rules(profiled: Any, figure: Any) -> None:
    path = profiled.base / "output" / "data" / "rules" / "profiler.json"
    statuses = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps(statuses)
    assert "no GPU metrics in this job" not in text
    assert "Error" not in {each.get("RuleEvaluationStatus") for each in statuses}, statuses
    figure(f"{len(statuses)} rules judged")


@pytest.mark.gpu("report, verdict and advice")
def test_report(profiled: Any, figure: Any) -> None:
    report = profiled.base / "output" / "data" / "report"
    assert (report / "profiler-report.html").exists(), profiled.log[-2000:]
    assert "No GPU" not in (report / "profiler-report.html").read_text(encoding="utf-8")
    lines = [line for line in profiled.log.splitlines() if line.startswith("verdict: ")]
    assert lines, profiled.log[-2000:]
    figure(lines[0].removeprefix("verdict: ")[:60])
