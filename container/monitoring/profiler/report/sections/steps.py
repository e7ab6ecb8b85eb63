"""Training steps: how long they take, which are outliers, and whether ranks work equally."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from container.monitoring.profiler.metrics.steps import training_steps
from container.monitoring.profiler.report.charts import axis, label, scatter
from container.monitoring.profiler.report.colours import nth
from container.monitoring.profiler.report.markup import Html, missing, note, table, tag
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.report.series import rounded, spaced, step_quantiles
from container.monitoring.profiler.units import count, number, seconds

COLUMNS = {"min": "min", "p50": "p50", "p95": "p95", "p99": "p99", "max": "max", "mean": "mean"}
BARS = 60
SHOWN_RANKS = 16
OUTLIERS = 200
"""Outliers drawn one by one."""


def steps(material: Material) -> Iterator[Html]:
    """Statistics, histogram and course of step durations; outliers."""
    yield tag("h3", "Step durations")
    found = material.figures.steps
    material.data["steps"] = found
    if found is None:
        yield missing("No training steps:", "no framework events of any were recorded.")
        return
    job = material.figures.job
    rate = (job["batch_size"] or 0) * max(1, len(found["by_rank"])) / found["mean"]
    ranks = found["by_rank"] if len(found["by_rank"]) > 1 else []
    yield table(
        ["", "steps", *COLUMNS, "deviation", "outliers"],
        [
            [
                "all ranks" if ranks else "training steps",
                count(found["steps"]),
                *(seconds(found[name]) for name in COLUMNS.values()),
                seconds(found["deviation"]),
                count(found["outliers"]),
            ],
            *(
                [
                    f"rank {row['rank']} on {row['node']}",
                    count(row["steps"]),
                    *(seconds(row[name]) for name in COLUMNS.values()),
                    seconds(row["deviation"]),
                    "",
                ]
                for row in ranks[:SHOWN_RANKS]
            ),
        ],
    )
    if rate:
        yield note(f"{count(rate)} images a second while training.")
    yield tag("div", _histogram(material, found), _course(material, found), class_="pair")
    yield from _outliers(material, found)


def balance(material: Material) -> Iterator[Html]:
    """Whether GPUs, or ranks, have equal work."""
    yield tag("h3", "Workload balancing")
    series = material.figures.series
    gpus = series[series["metric"] == "GPU"]
    found = list(gpus.groupby(["node", "name"], observed=True))
    ranks = material.figures.steps["by_rank"] if material.figures.steps else []
    if len(found) < 2 and len(ranks) < 2:
        yield missing("Nothing to balance:", "one process on one device did all the work.")
        return
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
                nth(place),
                line={"color": nth(place), "width": 1.6, "shape": "hvh"},
                hovertemplate="%{y:.1f} %",
            )
        )
    if len(traces) > 1:
        yield material.charts.add(
            "balance",
            "How often each GPU is used how much: equal work gives equal lines",
            traces,
            {
                "xaxis": axis("GPU utilisation", ticksuffix=" %", range=[0, 100]),
                "yaxis": axis("share of samples", ticksuffix=" %", rangemode="tozero"),
            },
        )
    if len(ranks) > 1:
        mean = float(np.mean([row["compute"] for row in ranks])) or None
        yield table(
            ["rank", "node", "computing a step", "of the mean", "waiting for data a step"],
            [
                [
                    count(row["rank"]),
                    row["node"],
                    seconds(row["compute"]),
                    f"{row['compute'] / mean:.2f}×" if mean else "–",
                    seconds(row["data"]),
                ]
                for row in ranks
            ],
            words=2,
        )
    yield from _distances(material)


def _distances(material: Material) -> Iterator[Html]:
    outcome = next(
        (o for o in material.figures.outcomes if o.request.rule == "LoadBalancing"), None
    )
    if outcome is not None and outcome.reason:
        yield note(*material.linked([outcome.request.name]), ": ", outcome.reason, ".")


def _histogram(material: Material, found: dict[str, Any]) -> Html:
    events = training_steps(material.figures.recording.events)
    values = events["duration"].to_numpy(float)
    top = max(found["p99"] * 1.1, found["limit"])
    heights, edges = np.histogram(np.minimum(values, top), bins=BARS, range=(found["min"], top))
    material.data["step_histogram"] = {
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
    return material.charts.add(
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


def _course(material: Material, found: dict[str, Any]) -> Html:
    events = training_steps(material.figures.recording.events)
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
    return material.charts.add(
        "course",
        "Step durations over the course of training",
        traces,
        {
            "xaxis": axis("step"),
            "yaxis": axis("ms a step", **({"type": "log"} if tall else {"rangemode": "tozero"})),
        },
    )


def _outliers(material: Material, found: dict[str, Any]) -> Iterator[Html]:
    if not found["longest"]:
        yield note(
            f"No step took longer than {seconds(found['limit'])}, the mean and three standard "
            "deviations."
        )
        return
    blame = found["blame"]
    yield note(
        f"{count(found['outliers'])} steps took longer than {seconds(found['limit'])}, the mean "
        f"and three standard deviations, and cost {seconds(found['excess'])} beyond the median."
        + (f" What grew most in them: {blame['phase']}." if blame else "")
    )
    yield tag(
        "details",
        tag("summary", f"The {len(found['longest'])} longest steps"),
        table(
            ["step", "rank", "at", "duration", "of the median"],
            [
                [
                    count(row["step"]),
                    count(row["rank"]),
                    material.at(row["start"]),
                    seconds(row["duration"]),
                    f"{number(row['duration'] / found['p50'])}×" if found["p50"] else "–",
                ]
                for row in found["longest"]
            ],
            words=0,
        ),
        class_="more",
    )
