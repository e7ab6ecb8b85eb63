"""Recordings in memory, for tests of the metrics and verdicts computed from them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.reading import Recording

START = 1_700_000_000.0
SPREAD = {"data": 0.02, "forward": 0.3, "backward": 0.6, "optimizer": 0.05, "metrics": 0.03}
HYPERPARAMETERS = {"batch_size": 32, "image_size": 224, "learning_rate": 0.001, "amp": "auto"}


def recorded(
    *,
    phases: Mapping[str, float] | None = None,
    durations: Sequence[float] = (0.1,) * 200,
    use: Mapping[str, float | Sequence[float]] | None = None,
    cores: int = 8,
    ranks: int = 1,
    job: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    epochs: Sequence[Mapping[str, float]] = (),
    losses: Sequence[float] = (),
    norms: Sequence[float] | None = None,
    debug_rules: Sequence[Mapping[str, Any]] = (),
    outside: Mapping[str, float] | None = None,
) -> Recording:
    """Return a job of one host: its training steps, and the use of the machine.

    Args:
        phases: shares of a step.
        durations: seconds of each step, of every rank.
        use: percent in use, by CPU, I/O wait, memory, GPU, GPU memory.
        outside: seconds of phases after the last step.
    """
    parts = SPREAD if phases is None else phases
    rows: list[tuple[Any, ...]] = []
    for rank in range(ranks):
        time = START + 1
        for step, duration in enumerate(durations):
            rows.append((rank, "step", "train", step, time, duration))
            at = time
            for phase, share in parts.items():
                rows.append((rank, phase, "train", step, at, share * duration))
                at += share * duration
            time += duration
        for phase, seconds in (outside or {}).items():
            rows.append((rank, phase, "other", -1, time, seconds))
            time += seconds
    events = pd.DataFrame(rows, columns=["rank", "phase", "mode", "step", "start", "duration"])
    events = events.assign(node="algo-1", pid=events["rank"], name=events["phase"])
    ended = float((events["start"] + events["duration"]).max()) if rows else START + 10
    trained = START + 1 + sum(durations)
    facts: dict[str, Any] = {
        "job": "made-up", "hosts": ["algo-1"], "world": ranks, "device": "cpu", "cores": cores,
        "train_images": 50_000, "hyperparameters": {**HYPERPARAMETERS, **(hyperparameters or {})},
        "started": START, "ended": ended + 0.1,
    }  # fmt: skip
    if durations:
        facts |= {"training_started": START + 1, "training_ended": trained}
    facts |= {key: facts["hyperparameters"].get(key) for key in ("batch_size", "image_size")}
    facts["workers"] = facts["hyperparameters"].get("workers")
    given = {**facts, **(job or {})}
    return Recording(
        system=_system(use or {}, cores, ended),
        events=events,
        operators=pd.DataFrame(
            columns=["rank", "device", "name", "calls", "self_time", "total_time"]
        ),
        job={key: value for key, value in given.items() if value is not None},
        curves=_curves(losses, norms),
        epochs=pd.DataFrame(list(epochs), dtype=float),
        debug_rules=[dict(rule) for rule in debug_rules],
        problems=(),
    )


def fired(rule: str, reason: str = "it did", steps: Sequence[int] = (40,)) -> dict[str, Any]:
    """Return a debugger rule's status."""
    return {
        "RuleConfigurationName": rule, "Rule": rule, "RuleEvaluationStatus": "IssuesFound",
        "StatusDetails": reason, "Steps": list(steps), "Times": [START + 5.0],
        "Triggered": len(steps), "Points": 10, "Parameters": {"threshold": 1},
    }  # fmt: skip


def _system(use: Mapping[str, float | Sequence[float]], cores: int, ended: float) -> pd.DataFrame:
    kinds = {
        "CPU": ("cpu", "CPUUtilization"), "I/O wait": ("cpu", "I/OWaitPercentage"),
        "memory": ("memory", ""), "GPU": ("gpu", "GPUUtilization"),
        "GPU memory": ("gpu", "GPUMemoryUtilization"),
    }  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    for metric, given in use.items():
        kind, dimension = kinds[metric]
        values = [given] * 40 if isinstance(given, int | float) else list(given)
        names = [f"cpu{n}" for n in range(cores)] if kind == "cpu" else [f"{kind}0"]
        times = np.linspace(START, ended, len(values))
        rows += [
            (time, "algo-1", kind, name, dimension, float(value))
            for name in names
            for time, value in zip(times, values, strict=True)
        ]
    frame = pd.DataFrame(rows, columns=["time", "node", "kind", "name", "dimension", "value"])
    return frame.sort_values("time", kind="stable", ignore_index=True)


def _curves(losses: Sequence[float], norms: Sequence[float] | None) -> pd.DataFrame:
    count = len(losses)
    columns = {
        "step": range(count), "epoch": [1] * count, "time": [START + 1 + n for n in range(count)],
        "loss": losses, "learning_rate": [0.1] * count, "gradient_norm": norms or [1.0] * count,
    }  # fmt: skip
    return pd.DataFrame(columns, dtype=float)
