"""What the framework spent its time on: modes, phases of a step, operators."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from container.monitoring.profiler.metrics.steps import (
    NESTED,
    PHASES,
    inside_training,
    training_steps,
)
from container.monitoring.profiler.report.context import ReportContext, Share
from container.monitoring.profiler.report.series import Clock, rounded, spaced, sums
from container.monitoring.profiler.units import seconds
from container.pages.charts import Chart, axis, colour, label

ACROSS = 120
"""Bars of the chart of phases over time."""
DEVICES = {"cpu": "processor", "cuda": "GPU"}


def framework(report: ReportContext) -> dict[str, Any]:
    """Modes, phases of training and validation steps, what is outside of steps, operators."""
    metrics = report.metrics.framework
    report.data["framework"] = metrics
    modes = [
        Share(
            row["mode"],
            row["share"] or 0.0,
            colour("phase", row["mode"]),
            seconds(row["seconds"]),
        )
        for row in metrics["modes"]
    ]
    clock = report.clock if modes and metrics["phases"] else None
    return {
        "modes": modes,
        "phases": _coloured(metrics["phases"]),
        "evaluation_phases": _coloured(metrics["evaluation_phases"]),
        "measured_by_gpu": metrics["measured_by"] == "GPU",
        "outside": metrics["outside"],
        "course": None if clock is None else _over_time(report, clock),
        "operators": [
            (
                DEVICES.get(device, device),
                "--blue" if device == "cpu" else "--green",
                [{**row, "name": _short(row["name"])} for row in rows],
            )
            for device, rows in metrics["operators"].items()
        ]
        if any(metrics["operators"].values())
        else [],
    }


def _coloured(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "colour": colour("phase", row["phase"])} for row in rows]


def _over_time(report: ReportContext, clock: Clock) -> Chart:
    """How a step is made up, over the course of the job: mean seconds a step in each bin."""
    events = report.metrics.recording.events
    steps = training_steps(events)
    bins = min(ACROSS, max(1, len(steps) // 4))
    first = float(steps["start"].min())
    last = float((steps["start"] + steps["duration"]).max())
    edges = spaced(first, max(last, first + 1e-3), bins)
    number = sums(steps["start"].to_numpy(float), np.ones(len(steps)), edges)
    inside = inside_training(events)
    inside = inside[~inside["phase"].isin(NESTED)]
    middles = rounded(clock.at((edges[:-1] + edges[1:]) / 2))
    found = set(inside["phase"].unique())
    traces = []
    for name in [*(p for p in PHASES if p in found), *sorted(found - set(PHASES))]:
        rows = inside[inside["phase"] == name]
        total = sums(_of_steps(rows, steps), rows["duration"].to_numpy(float), edges)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = 1e3 * total / number
        traces.append(
            {
                "type": "bar",
                "x": middles,
                "y": rounded(mean),
                "name": label(name),
                "marker": {"color": colour("phase", name), "line": {"width": 0}},
                "hovertemplate": "%{y:.3s} ms",
            }
        )
    return report.charts.add(
        "phases",
        "How a training step is made up over the course of the job",
        traces,
        {
            "barmode": "stack",
            "bargap": 0,
            "xaxis": clock.axis(),
            "yaxis": axis("ms a step", rangemode="tozero"),
        },
        height=320,
        moments=report.marks("StepOutlier"),
    )


def _of_steps(rows: pd.DataFrame, steps: pd.DataFrame) -> NDArray[np.float64]:
    """When the step began that each event is part of, so that a step is not torn between bins."""
    begun: NDArray[np.float64] = np.array(rows["start"], dtype=np.float64)
    starts = {rank: one["start"].to_numpy(float) for rank, one in steps.groupby("rank")}
    for rank, places in rows.groupby("rank").indices.items():
        own = starts.get(rank)
        if own is not None:
            last = np.searchsorted(own, begun[places] + 1e-6, side="right") - 1
            begun[places] = own[np.maximum(last, 0)]
    return begun


def _short(name: str) -> str:
    """Kernels have names of hundreds of letters."""
    return name if len(name) <= 70 else f"{name[:48]} … {name[-18:]}"
