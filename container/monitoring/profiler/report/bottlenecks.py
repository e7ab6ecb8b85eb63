"""Possible bottlenecks of training: GPUs, data, batch size, CPU, disks, GPU memory."""

from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.metrics.steps import inside_training
from container.monitoring.profiler.metrics.system import BUSIEST, WAITING, interval
from container.monitoring.profiler.report.context import ReportContext, Share
from container.monitoring.profiler.report.rules import findings
from container.monitoring.profiler.report.series import (
    Floats,
    box,
    line,
    rounded,
    spaced,
    step_quantiles,
)
from container.monitoring.profiler.units import count, percent, points, seconds
from container.pages.charts import PERCENT, Chart, axis, label, scatter, series_colour

CELLS = 20
"""Squares a side of the chart of one utilisation against another."""
IDLE = 10.0
"""Percent below which a GPU counts as idle: the bottleneck rules' own."""


def gpu_use(report: ReportContext) -> dict[str, Any]:
    """Box plots of every GPU; of the processors where there is none."""
    series = report.metrics.series
    found = series[series["metric"] == "GPU"]
    no_gpu = None
    if not len(found):
        no_gpu = _no_gpu(report)
        found = series[series["metric"] == "CPU"]
    chart = _boxes(report, found) if len(found) else None
    return {"no_gpu": no_gpu, "chart": chart, "findings": findings(report, "LowGPUUtilization")}


def data_loading(report: ReportContext) -> dict[str, Any]:
    """How long steps wait for data, and with how many processes it is loaded."""
    metrics = report.metrics
    events = inside_training(metrics.recording.events)
    waits = events[events["phase"] == "data"]
    if not len(waits):
        return {"facts": None}
    values = waits["duration"].to_numpy(float)
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    found = {
        "share": metrics.phase("data"),
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "max": float(values.max()),
        "workers": metrics.setting("workers"),
        "cores": metrics.job["cores"],
    }
    report.data["data_loading"] = found
    facts = [
        ("Share of a step", percent(found["share"])),
        ("Median wait", seconds(found["p50"])),
        ("p95", seconds(found["p95"])),
        ("p99", seconds(found["p99"])),
        ("Longest", seconds(found["max"])),
        ("Workers", count(found["workers"])),
        ("Cores a host", count(found["cores"])),
    ]
    chart = _waits(report, waits)
    return {"facts": facts, "chart": chart, "findings": findings(report, "Dataloader")}


def batch_size(report: ReportContext) -> dict[str, Any]:
    """Whether CPU, GPU and GPU memory leave room for a larger batch."""
    metrics = report.metrics
    rows = [
        (metric, metrics.use(metric, "p50"), metrics.use(metric, "p95"))
        for metric in ("CPU", "memory", "GPU", "GPU memory")
    ]
    rows = [row for row in rows if row[2] is not None]
    size = metrics.setting("batch_size")
    report.data["batch_size"] = {
        "batch_size": size,
        "use": {metric: {"p50": p50, "p95": p95} for metric, p50, p95 in rows},
    }
    return {
        "rows": [
            [metric, points(p50), points(p95), points(max(0.0, 100 - (p95 or 0)))]
            for metric, p50, p95 in rows
        ],
        "size": size,
        "findings": findings(report, "BatchSize"),
    }


def cpu(report: ReportContext) -> dict[str, Any]:
    """How often a GPU idles while CPU cores are at their limit."""
    return _bottleneck(report, "CPU bottlenecks", BUSIEST, 90.0, "CPUBottleneck", "cpu_bottleneck")


def io(report: ReportContext) -> dict[str, Any]:
    """How often a GPU idles while CPU cores wait for disks."""
    return _bottleneck(report, "I/O bottlenecks", WAITING, 50.0, "IOBottleneck", "io_bottleneck")


def gpu_memory(report: ReportContext) -> dict[str, Any]:
    """Every GPU's memory over time."""
    series = report.metrics.series
    found = series[series["metric"] == "GPU memory"]
    clock = report.clock
    if not len(found) or clock is None:
        return {"no_gpu": _no_gpu(report)}
    traces = [
        scatter(
            *line(clock, rows["time"].to_numpy(float), rows["value"].to_numpy(float)),
            f"{node} {name}",
            series_colour(place),
            hovertemplate="%{y:.3g} %",
        )
        for place, ((node, name), rows) in enumerate(found.groupby(["node", "name"], observed=True))
    ]
    chart = report.charts.add(
        "memory",
        "GPU memory over time",
        traces[:32],
        {"xaxis": clock.axis(), "yaxis": PERCENT},
        moments=report.marks("GPUMemoryIncrease"),
    )
    return {"no_gpu": None, "chart": chart, "findings": findings(report, "GPUMemoryIncrease")}


def _boxes(report: ReportContext, found: pd.DataFrame) -> Chart:
    traces = []
    for place, ((node, metric, name), rows) in enumerate(
        found.groupby(["node", "metric", "name"], observed=True)
    ):
        title = label(f"{node} {name or metric}")
        colour = series_colour(place)
        traces.append(
            {
                "type": "box",
                "orientation": "h",
                "y": [title],
                "name": title,
                "boxpoints": False,
                "line": {"color": colour, "width": 1.5},
                "fillcolor": "rgba(0,0,0,0)",
                "showlegend": False,
                **box(rows["value"].to_numpy(float)),
            }
        )
    metric = str(found["metric"].iloc[0])
    return report.charts.add(
        "boxes",
        f"{metric} utilisation: quartiles in the box, whiskers to the 5th and 95th percentile",
        traces[:48],
        {
            "xaxis": PERCENT,
            "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False},
            "hovermode": "closest",
        },
        height=90 + 34 * min(48, len(traces)),
    )


def _waits(report: ReportContext, waits: pd.DataFrame) -> Chart:
    at = waits["step"].to_numpy(float)
    if not (at >= 0).any():
        at = np.arange(len(waits), dtype=float)
    middle, _, half, high = step_quantiles(at, 1e3 * waits["duration"].to_numpy(float))
    return report.charts.add(
        "waits",
        "Waiting for data over the course of training",
        [
            scatter(rounded(middle), rounded(high), "p95", "--gray", hovertemplate="%{y:.3s} ms"),
            scatter(
                rounded(middle), rounded(half), "median", "--orange", hovertemplate="%{y:.3s} ms"
            ),
        ],
        {
            "xaxis": axis("step"),
            "yaxis": axis("ms a step", rangemode="tozero"),
        },
    )


def _bottleneck(
    report: ReportContext, heading: str, metric: str, limit: float, rule: str, key: str
) -> dict[str, Any]:
    """A GPU's use against what may hold it up, sample by sample."""
    series = report.metrics.series
    pairs = _paired(series, metric)
    if not len(pairs):
        measured = len(series) > 0 and bool((series["metric"] == "GPU").any())
        no_gpu = None if measured else _no_gpu(report)
        return {"heading": heading, "metric": metric, "no_gpu": no_gpu, "shares": None}
    gpu, other = pairs["gpu"].to_numpy(float), pairs["other"].to_numpy(float)
    idle, held = gpu < IDLE, other > limit
    shares = {
        "held up": float((idle & held).mean()),
        "idle for other reasons": float((idle & ~held).mean()),
        "at work": float((~idle).mean()),
    }
    report.data[key] = {"samples": len(pairs), **shares}
    return {
        "heading": heading,
        "metric": metric,
        "no_gpu": None,
        "shares": [
            Share(f"GPU idle, {metric} above {limit:.0f} %", shares["held up"], "--red"),
            Share("GPU idle for other reasons", shares["idle for other reasons"], "--yellow"),
            Share("GPU at work", shares["at work"], "--green"),
        ],
        "chart": _heat_map(report, gpu, other, metric, key.replace("_", "-")),
        "findings": findings(report, rule),
    }


def _heat_map(report: ReportContext, gpu: Floats, other: Floats, metric: str, anchor: str) -> Chart:
    heights, _, _ = np.histogram2d(
        other.clip(0, 99.99), gpu.clip(0, 99.99), bins=CELLS, range=[[0, 100], [0, 100]]
    )
    centres = rounded(spaced(0, 100, CELLS)[:-1] + 50 / CELLS)
    trace = {
        "type": "heatmap",
        "x": centres,
        "y": centres,
        "z": [rounded(row, 3) for row in 100 * heights.T / max(1, heights.sum())],
        "colorscale": [[0, "--heat0"], [0.3, "--heat1"], [1, "--heat2"]],
        "hovertemplate": f"GPU %{{y}} %, {metric} %{{x}} %: %{{z}} % of samples<extra></extra>",
        "colorbar": {"ticksuffix": " %", "thickness": 10, "outlinewidth": 0},
        "xgap": 1,
        "ygap": 1,
    }
    return report.charts.add(
        anchor,
        f"Samples by GPU use and {metric}; the lower right corner is a bottleneck",
        [trace],
        {
            "xaxis": axis(metric, ticksuffix=" %", showgrid=False),
            "yaxis": axis("GPU", ticksuffix=" %", showgrid=False),
            "hovermode": "closest",
        },
        height=300,
    )


def _paired(series: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each sample of a GPU with the sample of another metric of its node nearest in time."""
    parts = []
    for _, rows in series.groupby("node", observed=True):
        other = rows[rows["metric"] == metric][["time", "value"]]
        gpus = rows[rows["metric"] == "GPU"][["time", "value"]]
        spacing = interval(other["time"])
        if not len(gpus) or spacing is None:
            continue
        parts.append(
            pd.merge_asof(
                gpus.rename(columns={"value": "gpu"}),
                other.rename(columns={"value": "other"}),
                on="time",
                direction="nearest",
                tolerance=2 * spacing,
            ).dropna()
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _no_gpu(report: ReportContext) -> tuple[str, str]:
    """A heading and the reason for missing GPU metrics."""
    device = report.metrics.job["device"]
    if device is not None and not report.metrics.on_gpu:
        return "No GPU:", "the job trained on processors."
    return (
        "No GPU metrics:",
        f"the job’s device is {device}, but no GPU was measured: NVIDIA’s library was not found."
        if device
        else "no GPU was measured.",
    )
