"""Framework metrics: modes, phases, operators and single steps."""

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
from container.monitoring.profiler.report.series import Clock, rounded, spaced, step_quantiles, sums
from container.monitoring.profiler.units import count, number, seconds
from container.pages.charts import Chart, axis, colour, label, scatter, series_colour

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


COLUMNS = ("min", "p50", "p95", "p99", "max", "mean", "deviation")
BARS = 60
SHOWN_RANKS = 16
OUTLIERS = 200
"""Outliers drawn one by one."""


def steps(report: ReportContext) -> dict[str, Any]:
    """Statistics, histogram and course of step durations; outliers."""
    found = report.metrics.steps
    report.data["steps"] = found
    if found is None:
        return {"steps": None}
    batches = report.metrics.setting("gradient_accumulation_steps") or 1
    images = batches * (report.metrics.job["batch_size"] or 0)
    ranks = found["by_rank"] if len(found["by_rank"]) > 1 else []
    rows = [("all ranks" if ranks else "training steps", found)]
    rows += [(f"rank {row['rank']} on {row['node']}", row) for row in ranks[:SHOWN_RANKS]]
    return {
        "steps": found,
        "header": ["", "steps", *COLUMNS, "outliers"],
        "rows": [
            [
                name,
                count(row["steps"]),
                *(seconds(row[column]) for column in COLUMNS),
                count(row["outliers"]) if row is found else "",
            ]
            for name, row in rows
        ],
        "rate": images * max(1, len(found["by_rank"])) / found["mean"],
        "charts": [_histogram(report, found), _course(report, found)],
        "longest": [
            [
                count(row["step"]),
                count(row["rank"]),
                report.at(row["start"]),
                seconds(row["duration"]),
                f"{number(row['duration'] / found['p50'])}×" if found["p50"] else "–",
            ]
            for row in found["longest"]
        ],
    }


def balance(report: ReportContext) -> dict[str, Any]:
    """Whether GPUs, or ranks, have equal load."""
    series = report.metrics.series
    gpus = series[series["metric"] == "GPU"]
    found = list(gpus.groupby(["node", "name"], observed=True))
    ranks = report.metrics.steps["by_rank"] if report.metrics.steps else []
    chart = None
    edges = spaced(0, 100, 50)
    traces = []
    for place, ((node, name), rows) in enumerate(found[:SHOWN_RANKS]):
        heights, _ = np.histogram(rows["value"].to_numpy(float).clip(0, 99.99), edges)
        share = rounded(100 * heights / max(1, heights.sum()), 3)
        traces.append(
            scatter(
                rounded(edges[:-1] + 1),
                share,
                f"{node} {name}",
                series_colour(place),
                line={"color": series_colour(place), "width": 1.6, "shape": "hvh"},
                hovertemplate="%{y:.1f} %",
            )
        )
    if len(traces) > 1:
        chart = report.charts.add(
            "balance",
            "How often each GPU is used how much: equal work gives equal lines",
            traces,
            {
                "xaxis": axis("GPU utilisation", ticksuffix=" %", range=[0, 100]),
                "yaxis": axis("share of samples", ticksuffix=" %", rangemode="tozero"),
            },
        )
    mean = float(np.mean([row["compute"] for row in ranks])) if ranks else 0.0
    outcome = next((o for o in report.metrics.outcomes if o.request.rule == "LoadBalancing"), None)
    return {
        "divided": len(found) >= 2 or len(ranks) >= 2,
        "chart": chart,
        "ranks": [
            [
                count(row["rank"]),
                row["node"],
                seconds(row["compute"]),
                f"{row['compute'] / mean:.2f}×" if mean else "–",
                seconds(row["data"]),
            ]
            for row in ranks
        ]
        if len(ranks) > 1
        else [],
        "link": report.rule_links([outcome.request.name])[0] if outcome else None,
        "reason": outcome.reason if outcome else "",
    }


def _histogram(report: ReportContext, found: dict[str, Any]) -> Chart:
    events = training_steps(report.metrics.recording.events)
    values = events["duration"].to_numpy(float)
    top = max(found["p99"] * 1.1, found["limit"])
    heights, edges = np.histogram(np.minimum(values, top), bins=BARS, range=(found["min"], top))
    report.data["step_histogram"] = {
        "edges": rounded(edges, 5),
        "steps": [int(height) for height in heights],
    }
    shown = 1e3 * (edges[:-1] + edges[1:]) / 2
    trace = {
        "type": "bar",
        "x": rounded(shown),
        "y": [int(height) for height in heights],
        "marker": {"color": "--blue", "line": {"width": 0}},
        "hovertemplate": "%{x:.4s} ms: %{y} steps<extra></extra>",
        "showlegend": False,
    }
    return report.charts.add(
        "histogram",
        f"Steps by duration; the last bar has all from {seconds(top)} on",
        [trace],
        {
            "bargap": 0.05,
            "hovermode": "closest",
            "xaxis": axis("ms a step"),
            "yaxis": axis("steps", rangemode="tozero"),
        },
    )


def _course(report: ReportContext, found: dict[str, Any]) -> Chart:
    events = training_steps(report.metrics.recording.events)
    if (events["step"] >= 0).any():
        at = events["step"].to_numpy(float)
    else:
        at = np.arange(len(events), dtype=float)
    values = 1e3 * events["duration"].to_numpy(float)
    middle, low, half, high = step_quantiles(at, values)
    band = {"width": 0, "color": "--blue"}
    hidden = {"hoverinfo": "skip", "showlegend": False}
    x = rounded(middle)
    traces = [
        scatter(x, rounded(low), "p5", "--blue", **hidden) | {"line": band},
        scatter(x, rounded(high), "p5 to p95", "--blue", fill="tonexty", opacity=0.4)
        | {"line": band, "hoverinfo": "skip"},
        scatter(x, rounded(half), "median", "--blue", hovertemplate="%{y:.3s} ms"),
    ]
    late = events["duration"].to_numpy(float) > found["limit"]
    worst = np.flatnonzero(late)[np.argsort(-values[late])][:OUTLIERS]
    if len(worst):
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": rounded(at[worst], 7),
                "y": rounded(values[worst]),
                "name": label("outliers"),
                "marker": {"color": "--red", "size": 5},
                "hovertemplate": "%{y:.3s} ms",
            }
        )
    tall = found["max"] > 20 * found["p50"]
    return report.charts.add(
        "course",
        "Step durations over the course of training",
        traces,
        {
            "xaxis": axis("step"),
            "yaxis": axis("ms a step", **({"type": "log"} if tall else {"rangemode": "tozero"})),
        },
    )
