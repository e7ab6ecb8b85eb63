"""What the framework spent its time on: modes, phases of a step, operators."""

from collections.abc import Iterator
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
from container.monitoring.profiler.report.charts import axis, label
from container.monitoring.profiler.report.colours import phase
from container.monitoring.profiler.report.markup import (
    Html,
    Share,
    bar,
    meter,
    missing,
    note,
    table,
    tag,
)
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.report.series import Clock, rounded, spaced, sums
from container.monitoring.profiler.units import count, percent, seconds

ACROSS = 120
"""Bars of the chart of phases over time."""
DEVICES = {"cpu": "processor", "cuda": "GPU"}


def framework(material: Material) -> Iterator[Html]:
    """Modes, phases of training and validation steps, what is outside of steps, operators."""
    figures = material.figures.framework
    material.data["framework"] = figures
    events = material.figures.recording.events
    if not figures["modes"]:
        yield missing(
            "No framework events:",
            "the timeline was not recorded or its files are not here, so nothing tells where a "
            "step’s time goes; profile=true records them.",
        )
    else:
        yield tag("h3", "Training, validation, other")
        yield bar(
            [
                Share(row["mode"], row["share"] or 0.0, phase(row["mode"]), seconds(row["seconds"]))
                for row in figures["modes"]
            ],
            "the training loop",
        )
        for title, rows, name in (
            ("Phases of training steps", figures["phases"], "train"),
            ("Phases of validation steps", figures["evaluation_phases"], "eval"),
        ):
            yield from _phases(title, rows, name)
            if name == "train" and figures["measured_by"] == "GPU":
                yield note("As the GPU measured them; the loop itself only launches the work.")
        yield from _outside(figures["outside"])
        if material.clock is not None and figures["phases"]:
            yield from _over_time(material, material.clock, events)
    yield from _operators(figures["operators"])


def _phases(title: str, rows: list[dict[str, Any]], mode: str) -> Iterator[Html]:
    if rows:
        yield tag("h3", title)
        yield table(
            ["phase", "share of the steps", "time", "median", "times"],
            [
                [
                    row["phase"],
                    meter(row["share"], phase(row["phase"])),
                    seconds(row["seconds"]),
                    seconds(row["median"]),
                    count(row["times"]),
                ]
                for row in rows
            ],
        )
    elif mode == "train":
        yield missing("No phases:", "steps were recorded whole, without forward, backward or data.")


def _outside(rows: list[dict[str, Any]]) -> Iterator[Html]:
    if not rows:
        return
    yield tag("h3", "Outside of steps")
    yield table(
        ["phase", "time", "share of the job", "times"],
        [
            [row["phase"], seconds(row["seconds"]), percent(row["share"]), count(row["times"])]
            for row in rows
        ],
    )


def _over_time(material: Material, clock: Clock, events: pd.DataFrame) -> Iterator[Html]:
    """How a step is made up, over the course of the job: mean seconds a step in each bin."""
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
                "marker": {"color": phase(name), "line": {"width": 0}},
                "hovertemplate": "%{y:.3s} ms",
            }
        )
    yield material.charts.add(
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
        moments=material.marks("StepOutlier"),
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


def _operators(devices: dict[str, list[dict[str, Any]]]) -> Iterator[Html]:
    yield tag("h3", "Operators")
    if not any(devices.values()):
        yield missing(
            "No operators:",
            "operators are recorded on chosen steps only; profile_steps=10-12 chooses three.",
        )
        return
    for device, rows in devices.items():
        place = DEVICES.get(device, device)
        yield tag("h4", f"On the {place}: the {len(rows)} that take longest by themselves")
        yield table(
            ["operator", "share of all", "self", "with what it calls", "calls"],
            [
                [
                    tag("code", _short(row["name"])),
                    meter(row["share"], "--blue" if device == "cpu" else "--green"),
                    seconds(row["self_time"]),
                    seconds(row["total_time"]),
                    count(row["calls"]),
                ]
                for row in rows
            ],
        )
    yield note("Summed over ranks and recorded steps; shares are of all self time on that device.")


def _short(name: str) -> str:
    """Kernels have names of hundreds of letters."""
    return name if len(name) <= 70 else f"{name[:48]} … {name[-18:]}"
