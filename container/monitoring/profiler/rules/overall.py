"""Rules that never fire but fill the report's tables of utilization and time."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.metrics.statistics import Floats, pick, present
from container.monitoring.profiler.metrics.steps import APART, breakdown
from container.monitoring.profiler.metrics.system import (
    CPU,
    GPU,
    GPU_MEMORY,
    IO_WAIT,
    Points,
)
from container.monitoring.profiler.outcome import RuleOutcome
from container.monitoring.profiler.rules.steps import NO_STEPS
from container.rules.requests import RuleRequest

SMALL = 2.0
"""Per cent of all operators' time below which an operator is left out."""

_TABLES = {
    "Network": ("network", None, "sum"),
    "GPU": ("gpu", GPU, "mean"),
    "CPU": ("cpu", CPU, "mean"),
    "CPU memory": ("memory", None, "mean"),
    "GPU memory": ("gpu", GPU_MEMORY, "mean"),
    "I/O": ("cpu", IO_WAIT, "mean"),
    "Disk": ("disk", None, "sum"),
}
"""SageMaker's tables and Disk: the samples' kind, their dimension, and what a node's value is of
its cores', GPUs' or interfaces'."""


def overall_system_usage(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """How much of everything each node used: max, p99, p95, p50, min and mean.

    Percentages; network and disk in what was recorded (bytes), added up over interfaces. `names`
    holds the figures of every single metric of a node: by GPU, by interface, not by core.
    """
    if metrics.recording.system.empty:
        return RuleOutcome(request, "no system metrics in this job", judged=False)
    details: dict[str, Any] = {table: {} for table in _TABLES}
    names: dict[str, dict[str, dict[str, float]]] = {}
    points = 0
    for table, (kind, dimension, how) in _TABLES.items():
        for node in metrics.samples.nodes:
            found = _measured(metrics, node, kind, dimension)
            if not len(found):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # points without any measurement
                whole = (np.nansum if how == "sum" else np.nanmean)(found.values, axis=1)
            whole = present(whole)
            points = max(points, len(whole))
            details[table][node] = _usage(whole)
            if kind != "cpu":
                for at, name in enumerate(found.names):
                    entry = names.setdefault(node, {})
                    entry[f"{table} {name}"] = _usage(present(found.values[:, at]))
    details["names"] = names
    seen = [f"{node} {details['CPU'][node]['mean']:.0f} %" for node in details["CPU"]]
    reason = "processors used on average: " + ", ".join(seen) if seen else "no processor metrics"
    return RuleOutcome(request, reason, datapoints=points, details=details)


def overall_framework_metrics(metrics: ProfileMetrics, request: RuleRequest) -> RuleOutcome:
    """Where the time went: modes, phases, forward against backward, and operators.

    SageMaker's tables hold percentages, its operators' totals microseconds. `train` and `eval` are
    the steps' breakdowns, `train_on_device` what a GPU did meanwhile, `outside` the seconds of
    phases outside steps.
    """
    recording = metrics.recording
    events = recording.events
    details: dict[str, Any] = {"phase": {}, "phase_time": {}, "ratio": {}}
    modes = _modes(events)
    if modes:
        details["phase_time"] = modes
        details["phase"] = _percent(modes)
    parts = events[~events["phase"].isin(APART)]
    sums = parts.groupby("phase", observed=True)["duration"].sum()
    times = {str(phase): float(seconds) for phase, seconds in sums.items()}
    details["general"] = _percent(times)
    if times.get("forward") and times.get("backward"):
        both = {"Forward pass": times["forward"], "Backward pass": times["backward"]}
        details["forward_backward"] = _percent(both)
    outside = parts[parts["mode"] == "other"].groupby("phase", observed=True)["duration"].sum()
    details["outside"] = {str(phase): float(seconds) for phase, seconds in outside.items()}
    for mode in ("train", "eval"):
        details[mode] = metrics.breakdown(mode)
    if not recording.on_device.empty:
        details["train_on_device"] = breakdown(
            pd.concat([events[events["phase"] == "step"], recording.on_device]), "train"
        )
    details |= _operators(recording.operators)
    if not modes:
        return RuleOutcome(request, NO_STEPS, judged=False, details=details)
    train = details["train"].get("phases", {})
    largest = max(train, key=lambda phase: float(train[phase]["share"]), default=None)
    reason = (
        f"{largest} takes {train[largest]['share']:.0f} % of a training step"
        if largest
        else "no training steps"
    )
    return RuleOutcome(
        request, reason, datapoints=int((events["phase"] == "step").sum()), details=details
    )


def _measured(metrics: ProfileMetrics, node: str, kind: str, dimension: str | None) -> Points:
    """A node's metric; without a dimension all of its kind, whichever way dimensions are used."""
    if dimension is not None:
        return metrics.samples.points(node, dimension)
    system = metrics.recording.system
    mine = system[(system["node"] == node) & (system["kind"] == kind)]
    if kind == "memory":
        percent = mine["name"].astype(str) == "MemoryUsedPercent"
        mine = mine[percent] if percent.any() else mine
    elif kind == "disk":
        mine = mine[mine["name"].astype(str).str.contains("Throughput")]
    elif kind == "network":
        algorithm = mine["dimension"].astype(str) == "Algorithm"
        mine = mine[algorithm] if algorithm.any() else mine
    return Points.of(mine)


def _usage(values: Floats) -> dict[str, float]:
    found = pick(values, "max", "p99", "p95", "p50", "min", "mean")
    return {name: round(value, 2) for name, value in found.items()}


def _modes(events: pd.DataFrame) -> dict[str, float]:
    """Seconds of training steps, evaluation steps and what lay between, over all ranks."""
    steps = events[events["phase"] == "step"]
    if steps.empty:
        return {}
    ends = steps["start"] + steps["duration"]
    first, last = steps.groupby("rank")["start"].min(), ends.groupby(steps["rank"]).max()
    sums = steps.groupby("mode", observed=True)["duration"].sum()
    found = {
        f"Step:ModeKeys.{str(mode).upper()}": float(seconds)
        for mode, seconds in sums.sort_index(ascending=False).items()
    }
    rest = float((last - first).sum()) - sum(found.values())
    return {**found, "others": max(0.0, rest)}


def _operators(operators: pd.DataFrame) -> dict[str, Any]:
    """SageMaker's tables of operators, by self time: what one spends in another is the other's."""
    found: dict[str, Any] = {}
    totals: dict[str, float] = {}
    for device, label in (("cpu", "CPU"), ("cuda", "GPU")):
        mine = operators[operators["device"] == device]
        sums = mine.groupby("name")["self_time"].sum().sort_values(ascending=False)
        if sums.empty or sums.sum() <= 0:
            continue
        totals[f"{label.lower()}_functions"] = float(sums.sum())
        kept = sums[100 * sums / sums.sum() > SMALL]
        times = {str(name): float(seconds) for name, seconds in kept.items()}
        found[label] = _percent(times)
        found[f"{label}_total"] = {name: 1e6 * seconds for name, seconds in times.items()}
    return {**found, "ratio": _percent(totals)}


def _percent(times: dict[str, float]) -> dict[str, float]:
    total = sum(times.values())
    return {name: 100 * time / total for name, time in times.items()} if total > 0 else {}
