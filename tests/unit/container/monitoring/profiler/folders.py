"""Builds the output of profiled jobs: SageMaker's own layout, and berth's with further files.

A `Host` describes one host's samples and steps as plain numbers; `write_aws` and `write_berth` put
them to disk in either layout; `write_hour` writes the one-hour job of the speed tests.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from container.monitoring.profiler import phases

START = 1_700_000_040.0
"""Unix seconds at a full minute."""

PHASES = {
    "data": 0.2, "copy": 0.02, "augment": 0.03, "forward": 0.25, "backward": 0.4,
    "optimizer": 0.07, "metrics": 0.03,
}  # fmt: skip
"""Shares of a step."""

AWS_NAMES = {
    "data": ("DataLoaderIter", "DataLoaderIter::GetNext"),
    "forward": ("Forward", "ResNet_0"),
    "backward": ("Backward(post-forward)", "ResNet_0"),
}
"""Process and event names of the phases that smdebug's timeline has."""


@dataclass
class Host:
    """One host's recording.

    Attributes:
        name: algo-1, …
        interval: seconds between samples.
        cpu, io, gpu, gpu_memory: percentages, (points, cores or GPUs); io is I/O wait; None for no
            such metric.
        memory: percent, (points,).
        network: bytes a second received, (points,).
        steps: seconds of each training step.
        eval_steps: seconds of each evaluation step, after the training steps.
        before: seconds from the first sample to the first step.
        phases: shares of a step, by phase.
        pid: of the training process.
        start: unix seconds of the first sample.
    """

    name: str = "algo-1"
    interval: float = 0.5
    cpu: Any = None
    io: Any = None
    gpu: Any = None
    gpu_memory: Any = None
    memory: Any = None
    network: Any = None
    steps: Sequence[float] | np.ndarray = ()
    eval_steps: Sequence[float] | np.ndarray = ()
    before: float = 1.0
    phases: Mapping[str, float] = field(default_factory=lambda: dict(PHASES))
    pid: int = 7
    start: float = START


def constant(points: int, value: float, names: int = 1) -> np.ndarray:
    """Return a constant metric: (points, names)."""
    return np.full((points, names), float(value))


def samples(host: Host) -> Iterator[tuple[float, str]]:
    """Return the time and line of each of a host's samples by time, as written by SageMaker."""
    columns = (
        ("cpu", "cpu", "CPUUtilization", host.cpu),
        ("cpu", "cpu", "I/OWaitPercentage", host.io),
        ("gpu", "gpu", "GPUUtilization", host.gpu),
        ("gpu", "gpu", "GPUMemoryUtilization", host.gpu_memory),
        ("memory", "MemoryUsedPercent", "", host.memory),
        ("network", "ReceiveBytesPerSecond", "Algorithm", host.network),
    )
    series: list[tuple[str, list[float]]] = []
    for kind, name, dimension, values in columns:
        table = np.empty((0, 1)) if values is None else np.asarray(values, float)
        table = table.reshape(len(table), -1) if len(table) else np.empty((0, 1))
        for at in range(table.shape[1]):
            full = f"{name}{at}" if kind in ("cpu", "gpu") else name
            head = f'{{"Type":"{kind}","Name":"{full}","Dimension":"{dimension}","Value":'
            series.append((head, table[:, at].tolist()))
    for point in range(max(len(values) for _, values in series)):
        time = round(host.start + point * host.interval, 6)
        tail = f',"NodeId":"{host.name}","Timestamp":{time!r}}}\n'
        for head, values in series:
            if point < len(values):
                yield time, f"{head}{values[point]!r}{tail}"


def write_system(root: Path, host: Host) -> list[Path]:
    """Write `system/incremental/<hour>/<minute>.<host>.json` below a profiler root."""
    minutes: dict[int, list[str]] = {}
    for time, line in samples(host):
        minutes.setdefault(int(time // 60 * 60), []).append(line)
    paths = []
    for minute, lines in minutes.items():
        hour = datetime.fromtimestamp(minute, UTC).strftime("%Y%m%d%H")
        path = root / "system" / "incremental" / hour / f"{minute}.{host.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
        paths.append(path)
    return paths


def events(host: Host, *, aws: bool = False) -> list[tuple[str, str, float, float, dict[str, Any]]]:
    """Return a host's events by end: process, name, start (unix s), duration (s), args.

    Args:
        aws: only smdebug's phases, by its names; its steps do not include the wait for data.
    """
    found = []
    time = host.start + host.before
    runs = (("TRAIN", "train", host.steps), ("EVAL", "eval", host.eval_steps))
    for aws_mode, mode, durations in runs:
        for number, duration in enumerate(durations):
            begin = time
            args = {"step_num": str(number)} if aws else {"step_num": number, "mode": mode}
            for phase, share in host.phases.items():
                own = phases.PHASES.get(phase, phase)
                process, name = AWS_NAMES.get(phase, ("", "")) if aws else (own, own)
                if process and not (mode == "eval" and phase in ("backward", "optimizer")):
                    found.append((process, name, time, duration * share, dict(args)))
                time += duration * share
            label = f"Step:ModeKeys.{aws_mode}"
            skipped = duration * host.phases.get("data", 0.0) if aws else 0.0
            found.append((label, label, begin + skipped, duration - skipped, dict(args)))
            time = begin + duration
    return found


def write_events(root: Path, host: Host, *, aws: bool = False) -> list[Path]:
    """`framework/pevents/<hour>/<end µs>_<pid>-<host>_pythontimeline.json` below a root."""
    minutes: dict[int, list[tuple[str, str, float, float, dict[str, Any]]]] = {}
    for event in events(host, aws=aws):
        minutes.setdefault(int((event[2] + event[3]) // 60 * 60), []).append(event)
    return [write_trace(root, host, found) for found in minutes.values()]


def write_trace(
    root: Path, host: Host, found: Sequence[tuple[str, str, float, float, dict[str, Any]]]
) -> Path:
    """Write one event file."""
    base = int(found[0][2] * 1e6)
    lines = [_meta(0, start_time_since_epoch_in_micros=base)]
    processes: dict[str, int] = {}
    for process, name, start, duration, args in found:
        if process not in processes:
            processes[process] = len(processes) + 1
            lines.append(_meta(processes[process], name=process))
        lines.append(
            f'{{"name":{json.dumps(name)},"pid":{processes[process]},"ph":"X",'
            f'"ts":{round(start * 1e6) - base},"dur":{round(duration * 1e6)},'
            f'"args":{json.dumps(args)}}}'
        )
    end = max(start + duration for _, _, start, duration, _ in found)
    hour = datetime.fromtimestamp(end, UTC).strftime("%Y%m%d%H")
    file = f"{int(end * 1e6)}_{host.pid}-{host.name}_pythontimeline.json"
    path = root / "framework" / "pevents" / hour / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[\n" + ",\n".join(lines) + "\n]")
    return path


def _meta(pid: int, **args: Any) -> str:
    return json.dumps({"name": "process_name", "ph": "M", "pid": pid, "args": args})


def write_aws(folder: Path, *hosts: Host, job: str = "pytorch-training-2023-11-14") -> Path:
    """Write `<job>/profiler-output/…` and its report as in S3; return the job's folder."""
    root = folder / job / "profiler-output"
    for host in hosts:
        write_system(root, host)
        if len(host.steps) or len(host.eval_steps):
            write_events(root, host, aws=True)
    (root / "framework").mkdir(parents=True, exist_ok=True)
    (root / "framework" / "training_job_end.ts").write_text("")
    report = folder / job / "rule-output" / "ProfilerReport-1699999999" / "profiler-output"
    (report / "profiler-reports").mkdir(parents=True)
    (report / "profiler-report.html").write_text("<html></html>")
    (report / "profiler-reports" / "CPUBottleneck.json").write_text('{"RuleTriggered": 0}')
    return folder / job


def write_berth(
    folder: Path, *hosts: Host, job: Mapping[str, Any] | None = None, epochs: int = 2
) -> Path:
    """Write `data/profiler/…` with job.json, curves, epochs and debugger rules; return the folder.

    The layout is that of an unpacked output.tar.gz: all hosts share one `data/profiler`.

    Args:
        job: facts that replace those of the hosts; a value of None leaves one out.
    """
    data = folder / "data"
    root = data / "profiler"
    for host in hosts:
        write_system(root, host)
        if len(host.steps) or len(host.eval_steps):
            write_events(root, host)
    first = hosts[0]
    began = first.start + first.before
    trained = began + sum(first.steps)
    facts = {
        "job": "berth-demo", "hosts": [host.name for host in hosts], "world": len(hosts),
        "device": "cpu" if first.gpu is None else "NVIDIA T4",
        "cores": 1 if first.cpu is None else np.atleast_2d(first.cpu).shape[1],
        "workers": 2, "batch_size": 64, "train_images": 1437, "image_size": 32,
        "hyperparameters": {"batch_size": 64, "workers": 2, "learning_rate": 0.1},
        "started": first.start, "training_started": began, "training_ended": trained,
        "ended": trained + sum(first.eval_steps) + 1,
    } | dict(job or {})  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    known = {key: value for key, value in facts.items() if value is not None}
    (root / "job.json").write_text(json.dumps(known))
    steps = len(first.steps)
    curves = [
        {"step": step, "epoch": 1 + step * epochs // max(1, steps), "time": began + step * 0.1,
         "loss": 2.3 / (1 + step / 50), "learning_rate": 0.1 * (1 - step / max(1, steps)),
         "gradient_norm": 1.0 + 0.1 * (step % 7)}
        for step in range(0, steps, max(1, steps // 4000))
    ]  # fmt: skip
    table = [
        {"epoch": epoch + 1, "train:loss": 2 / (epoch + 1), "train:accuracy": 0.5 + epoch / 10,
         "validation:loss": 2.1 / (epoch + 1), "validation:accuracy": 0.45 + epoch / 10,
         "learning_rate": 0.1}
        for epoch in range(epochs)
    ]  # fmt: skip
    for name, rows in (("curves.jsonl", curves), ("metrics.jsonl", table)):
        (data / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "rules").mkdir(exist_ok=True)
    (data / "rules" / "debug.json").write_text(json.dumps([
        {"RuleConfigurationName": "LossNotDecreasing", "Rule": "LossNotDecreasing",
         "RuleEvaluationStatus": "IssuesFound", "StatusDetails": "it fell by 0.01 % in 10 steps",
         "LastModifiedTime": "2023-11-14T22:20:00.000+00:00", "Parameters": {"num_steps": 10},
         "Steps": [40], "Times": [began + 4.0], "Triggered": 1, "Points": 20},
        {"RuleConfigurationName": "VanishingGradient", "Rule": "VanishingGradient",
         "RuleEvaluationStatus": "NoIssuesFound", "StatusDetails": "all gradients are large enough",
         "LastModifiedTime": "2023-11-14T22:20:00.000+00:00", "Parameters": {"threshold": 1e-7},
         "Steps": [], "Times": [], "Triggered": 0, "Points": 20},
    ]))  # fmt: skip
    return folder


def write_operators(root: Path, host: str = "algo-1", rank: int = 0) -> Path:
    """Write a table of torch.profiler below a profiler root."""
    path = root / "framework" / "torch" / f"{host}-rank{rank}-operators.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([
        {"name": "aten::conv2d", "device": "cpu", "calls": 40, "self_time": 0.9, "total_time": 1.2},
        {"name": "aten::linear", "device": "cpu", "calls": 2, "self_time": 0.1, "total_time": 0.1},
        {"name": "sgemm", "device": "cuda", "calls": 40, "self_time": 0.3, "total_time": 0.3},
    ]))  # fmt: skip
    return path


def busy_host(name: str = "algo-1", points: int = 1200, gpus: int = 1, steps: int = 400) -> Host:
    """Return a healthy host with everything recorded: ten minutes at 500 ms by default."""
    dice = np.random.default_rng(7)
    return Host(
        name=name,
        cpu=dice.uniform(40, 85, (points, 4)),
        io=dice.uniform(0, 3, (points, 4)),
        gpu=dice.uniform(75, 99, (points, gpus)) if gpus else None,
        gpu_memory=dice.uniform(60, 61, (points, gpus)) if gpus else None,
        memory=dice.uniform(30, 31, points),
        network=dice.uniform(0, 1e6, points),
        steps=dice.normal(1.0, 0.01, steps),
        eval_steps=dice.normal(0.5, 0.01, steps // 10),
    )


def write_hour(folder: Path, *, points: int = 7200, cores: int = 16, steps: int = 50_000) -> Path:
    """Write the one-hour job on two hosts: samples every 500 ms, 50,000 steps of 8 events.

    The first host has the steps. Values repeat, so that writing takes seconds; files are full size.
    """
    dice = np.random.default_rng(11)
    hosts = [
        Host(
            name=name,
            cpu=dice.uniform(20, 99, (points, cores)).round(2),
            io=dice.uniform(0, 20, (points, cores)).round(2),
            gpu=dice.uniform(0, 99, (points, 1)).round(2),
            gpu_memory=dice.uniform(40, 45, (points, 1)).round(2),
            memory=dice.uniform(40, 45, points).round(2),
            network=dice.uniform(0, 1e7, points).round(2),
            steps=dice.normal(0.5 * points / steps, 0.002, taken).clip(0.001).round(6),
            before=20.0,
        )
        for name, taken in (("algo-1", steps), ("algo-2", 0))
    ]
    return write_berth(folder, *hosts, epochs=20)
