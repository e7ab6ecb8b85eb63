"""How much of every machine was used, in figures and over time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.metrics.system import ORDER
from container.monitoring.profiler.reading.text import natural
from container.monitoring.profiler.report.charts import PERCENT, label, scatter
from container.monitoring.profiler.report.colours import METRIC, nth
from container.monitoring.profiler.report.markup import Html, join, missing, note, table, tag
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.report.page import link
from container.monitoring.profiler.report.series import Clock, line, means, rounded
from container.monitoring.profiler.units import count, data, number, points

OPEN = 2
"""Nodes that are unfolded from the start."""
ACROSS = 240
"""Moments a heat map shows."""
COLUMNS = ("max", "p99", "p95", "p50", "min")


def system(material: Material) -> Iterator[Html]:
    """The statistics, then for each node its use over time, a row a core."""
    rows = material.figures.system
    material.data["system"] = rows
    if not rows:
        yield missing(
            "No system metrics:",
            "the sampler did not run or its files are not here; profile=true records them.",
        )
        yield from _moments(material)
        return
    nodes = sorted({row["node"] for row in rows}, key=natural)
    yield note(
        "CPU and I/O wait are the mean over a node’s cores at each sample; percentiles are over "
        "samples."
    )
    for place, node in enumerate(nodes):
        own = [row for row in rows if row["node"] == node]
        parts = [_table(own)]
        if material.clock is not None:
            parts.extend(_node(material, material.clock, node))
        if len(nodes) == 1:
            yield from parts
            continue
        told = ", ".join(
            f"{row['metric']} {row['name']}".strip() + f" {points(row['p50'])}"
            for row in own
            if row["metric"] in ("CPU", "GPU", "memory")
        )
        heading = tag("summary", tag("b", node), tag("span", f" median {told}", class_="soft"))
        yield tag("details", heading, *parts, class_="node", open="open" if place < OPEN else None)
    yield from _moments(material)


def _table(rows: list[dict[str, Any]]) -> Html:
    return table(
        ["metric", *COLUMNS, "samples"],
        [
            [
                f"{row['metric']} {row['name']}".strip(),
                *(_figure(row[name], row["unit"]) for name in COLUMNS),
                count(row["samples"]),
            ]
            for row in rows
        ],
    )


def _node(material: Material, clock: Clock, node: str) -> Iterator[Html]:
    series = material.figures.series
    own = series[series["node"] == node]
    traces = [
        scatter(*_line(clock, rows), f"{metric} {name}".strip(), _colour(metric, place))
        for metric in ORDER
        for place, (name, rows) in enumerate(_named(own[own["metric"] == metric]))
    ]
    if traces:
        yield material.charts.add(
            "utilisation",
            f"Utilisation of {node} over time",
            traces,
            {
                "xaxis": clock.axis(),
                "yaxis": PERCENT,
            },
            height=320,
            moments=material.marks(),
        )
    yield from _cores(material, clock, node)
    yield from _flows(material, clock, own)


def _cores(material: Material, clock: Clock, node: str) -> Iterator[Html]:
    raw = material.figures.recording.system
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
    yield material.charts.add(
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


def _flows(material: Material, clock: Clock, own: pd.DataFrame) -> Iterator[Html]:
    """What is measured in bytes."""
    traces: list[dict[str, Any]] = []
    for place, (metric, rows) in enumerate(
        own[own["unit"].isin(["B/s", "B"])].groupby("metric", observed=True, sort=True)
    ):
        traces.append(scatter(*_line(clock, rows), str(metric), nth(place)))
    if traces:
        yield material.charts.add(
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


def _moments(material: Material) -> Iterator[Html]:
    """The anchors that rules link to: each is marked in the chart above."""
    found = [each for each in material.moments if each["time"] is not None]
    if not found:
        return
    yield tag("h4", "Moments rules fired, as marked in the charts")
    items = [
        tag(
            "li",
            link(each["anchor"], material.at(each["time"]), " ", each["rule"]),
            id=each["anchor"],
        )
        for each in found
    ]
    yield tag("ul", join(items), class_="moments")


def _line(clock: Clock, rows: pd.DataFrame) -> tuple[list[Any], list[Any]]:
    return line(clock, rows["time"].to_numpy(float), rows["value"].to_numpy(float))


def _named(rows: pd.DataFrame) -> Sequence[tuple[str, pd.DataFrame]]:
    found = [(str(name), part) for name, part in rows.groupby("name", observed=True, sort=False)]
    return sorted(found, key=lambda each: natural(each[0]))


def _colour(metric: str, place: int) -> str:
    """A metric's own colour; further GPUs take others."""
    return METRIC[metric] if place == 0 else nth(2 * place + (metric == "GPU memory"))


def _figure(value: float, unit: str) -> str:
    if unit == "%":
        return points(value)
    if unit.startswith("B"):
        return data(value, per_second=unit == "B/s")
    return f"{number(value)}{unit}"
