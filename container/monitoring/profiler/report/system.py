"""System metrics: statistics and utilization over time of every machine."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.metrics.system import ORDER
from container.monitoring.profiler.reading.text import natural
from container.monitoring.profiler.report.context import ReportContext
from container.monitoring.profiler.report.series import Clock, line, means, rounded
from container.monitoring.profiler.units import count, data, number, points
from container.pages.charts import PERCENT, Chart, colour, label, scatter, series_colour

OPEN = 2
"""Nodes that are unfolded from the start."""
ACROSS = 240
"""Moments a heat map shows."""
COLUMNS = ("max", "p99", "p95", "p50", "min")


def system(report: ReportContext) -> dict[str, Any]:
    """The statistics, then for each node its use over time, a row a core."""
    rows = report.metrics.system
    report.data["system"] = rows
    nodes = []
    for place, name in enumerate(sorted({row["node"] for row in rows}, key=natural)):
        own = [row for row in rows if row["node"] == name]
        medians = [
            f"{_title(row)} {points(row['p50'])}"
            for row in own
            if row["metric"] in ("CPU", "GPU", "memory")
        ]
        nodes.append(
            {
                "name": name,
                "medians": ", ".join(medians),
                "open": place < OPEN,
                "rows": [_row(row) for row in own],
                "charts": [] if report.clock is None else list(_charts(report, report.clock, name)),
            }
        )
    moments = [
        {"anchor": each["anchor"], "text": f"{report.at(each['time'])} {each['rule']}"}
        for each in report.moments
        if each["time"] is not None
    ]
    return {"header": ["metric", *COLUMNS, "samples"], "nodes": nodes, "moments": moments}


def _title(row: dict[str, Any]) -> str:
    return f"{row['metric']} {row['name']}".strip()


def _row(row: dict[str, Any]) -> list[str]:
    return [
        _title(row),
        *(_figure(row[name], row["unit"]) for name in COLUMNS),
        count(row["samples"]),
    ]


def _charts(report: ReportContext, clock: Clock, node: str) -> Iterator[Chart]:
    series = report.metrics.series
    own = series[series["node"] == node]
    traces = [
        scatter(*_line(clock, rows), f"{metric} {name}".strip(), _colour(metric, place))
        for metric in ORDER
        for place, (name, rows) in enumerate(_named(own[own["metric"] == metric]))
    ]
    if traces:
        yield report.charts.add(
            "utilisation",
            f"Utilisation of {node} over time",
            traces,
            {
                "xaxis": clock.axis(),
                "yaxis": PERCENT,
            },
            height=320,
            moments=report.marks(),
        )
    yield from _cores(report, clock, node)
    yield from _flows(report, clock, own)


def _cores(report: ReportContext, clock: Clock, node: str) -> Iterator[Chart]:
    raw = report.metrics.recording.system
    raw = raw[(raw["node"] == node) & raw["dimension"].isin(["CPUUtilization", "GPUUtilization"])]
    found = sorted(_named(raw), key=lambda each: (each[0].startswith("gpu"), natural(each[0])))
    if len(found) < 2:
        return
    edges = clock.edges(min(ACROSS, max(1, int(np.median([len(rows) for _, rows in found])))))
    grid = [
        rounded(means(rows["time"].to_numpy(float), rows["value"].to_numpy(float), edges), 3)
        for _, rows in found
    ]
    middles = (edges[:-1] + edges[1:]) / 2
    trace = {
        "type": "heatmap",
        "x": rounded(clock.at(middles)),
        "y": [label(name) for name, _ in found],
        "z": grid,
        "zmin": 0,
        "zmax": 100,
        "colorscale": [[0, "--heat0"], [0.5, "--heat1"], [1, "--heat2"]],
        "hovertemplate": "%{y}: %{z} %<extra></extra>",
        "colorbar": {"ticksuffix": " %", "thickness": 10, "outlinewidth": 0, "len": 1.0},
    }
    yield report.charts.add(
        "cores",
        f"Every core of {node} over time",
        [trace],
        {
            "xaxis": clock.axis(),
            "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False},
            "hovermode": "closest",
        },
        height=min(620, 110 + 15 * len(found)),
    )


def _flows(report: ReportContext, clock: Clock, own: pd.DataFrame) -> Iterator[Chart]:
    """What is measured in bytes."""
    traces: list[dict[str, Any]] = []
    for place, (metric, rows) in enumerate(
        own[own["unit"].isin(["B/s", "B"])].groupby("metric", observed=True, sort=True)
    ):
        traces.append(scatter(*_line(clock, rows), str(metric), series_colour(place)))
    if traces:
        yield report.charts.add(
            "flows",
            "Network and disks over time",
            traces,
            {
                "xaxis": clock.axis(),
                "yaxis": {"tickformat": "~s", "ticksuffix": "B/s", "rangemode": "tozero"},
                "showlegend": True,
            },
            height=280,
        )


def _line(clock: Clock, rows: pd.DataFrame) -> tuple[list[Any], list[Any]]:
    return line(clock, rows["time"].to_numpy(float), rows["value"].to_numpy(float))


def _named(rows: pd.DataFrame) -> Sequence[tuple[str, pd.DataFrame]]:
    found = [(str(name), part) for name, part in rows.groupby("name", observed=True, sort=False)]
    return sorted(found, key=lambda each: natural(each[0]))


def _colour(metric: str, place: int) -> str:
    """A metric's own colour; further GPUs take others."""
    if place == 0:
        return colour("metric", metric)
    return series_colour(2 * place + (metric == "GPU memory"))


def _figure(value: float, unit: str) -> str:
    if unit == "%":
        return points(value)
    if unit.startswith("B"):
        return data(value, per_second=unit == "B/s")
    return f"{number(value)}{unit}"
