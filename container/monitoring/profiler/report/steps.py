"""Training steps: how long they take, which are outliers, and whether ranks work equally."""

from typing import Any

import numpy as np

from container.monitoring.profiler.metrics.steps import training_steps
from container.monitoring.profiler.report.context import ReportContext
from container.monitoring.profiler.report.series import rounded, spaced, step_quantiles
from container.monitoring.profiler.units import count, number, seconds
from container.pages.charts import Chart, axis, label, scatter, series_colour

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
    batch_size = report.metrics.job["batch_size"] or 0
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
        "rate": batch_size * max(1, len(found["by_rank"])) / found["mean"],
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
    """Whether GPUs, or ranks, have equal work."""
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
