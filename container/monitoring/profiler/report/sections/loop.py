"""What may hold the training loop up: GPUs, data, batches, processors, disks, GPU memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from container.monitoring.profiler.metrics.steps import inside_training
from container.monitoring.profiler.metrics.system import BUSIEST, WAITING, interval
from container.monitoring.profiler.outcome import starved
from container.monitoring.profiler.report.charts import PERCENT, axis, label, scatter
from container.monitoring.profiler.report.colours import nth
from container.monitoring.profiler.report.markup import (
    Html,
    Share,
    bar,
    facts,
    missing,
    note,
    table,
    tag,
)
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.report.sections.rules import points as looked
from container.monitoring.profiler.report.sections.steps import balance, steps
from container.monitoring.profiler.report.series import box, line, rounded, spaced, step_quantiles
from container.monitoring.profiler.units import count, percent, points, seconds

CELLS = 20
"""Squares a side of the chart of one utilisation against another."""
IDLE = 10.0
"""Percent below which a GPU counts as idle: the bottleneck rules' own."""


def loop(material: Material) -> Iterator[Html]:
    """AWS's sub-sections, in its order."""
    for part in (steps, gpu_use, balance, loading, batch, cpu, io, gpu_memory):
        yield from part(material)


def gpu_use(material: Material) -> Iterator[Html]:
    """Box plots of every GPU; of the processors where there is none."""
    yield tag("h3", "GPU utilisation")
    series = material.figures.series
    found = series[series["metric"] == "GPU"]
    if not len(found):
        yield _no_gpu(material)
        found = series[series["metric"] == "CPU"]
    if not len(found):
        return
    traces = []
    for place, ((node, metric, name), rows) in enumerate(
        found.groupby(["node", "metric", "name"], observed=True)
    ):
        title = label(f"{node} {name or metric}")
        colour = nth(place)
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
    yield material.charts.add(
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
    yield from _judged(material, "LowGPUUtilization")


def loading(material: Material) -> Iterator[Html]:
    """How long steps wait for data, and with how many processes it is loaded."""
    yield tag("h3", "Data loading")
    figures = material.figures
    events = inside_training(figures.recording.events)
    waits = events[events["phase"] == "data"]
    if not len(waits):
        yield missing("No waits recorded:", "the framework events have no data phase.")
        return
    values = waits["duration"].to_numpy(float)
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    found = {
        "share": figures.phase("data"),
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "max": float(values.max()),
        "workers": figures.setting("workers"),
        "cores": figures.job["cores"],
    }
    material.data["data_loading"] = found
    yield facts(
        [
            ("Share of a step", percent(found["share"])),
            ("Median wait", seconds(found["p50"])),
            ("p95", seconds(found["p95"])),
            ("p99", seconds(found["p99"])),
            ("Longest", seconds(found["max"])),
            ("Workers", count(found["workers"])),
            ("Cores a host", count(found["cores"])),
        ]
    )
    at = waits["step"].to_numpy(float)
    if not (at >= 0).any():
        at = np.arange(len(waits), dtype=float)
    middle, _, half, high = step_quantiles(at, 1e3 * values)
    yield material.charts.add(
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
    yield from _judged(material, "Dataloader")


def batch(material: Material) -> Iterator[Html]:
    """Whether processors, GPU and its memory leave room for a larger batch."""
    yield tag("h3", "Batch size")
    figures = material.figures
    rows = [
        (metric, figures.use(metric, "p50"), figures.use(metric, "p95"))
        for metric in ("CPU", "memory", "GPU", "GPU memory")
    ]
    rows = [row for row in rows if row[2] is not None]
    material.data["batch_size"] = {
        "batch_size": figures.setting("batch_size"),
        "use": {metric: {"p50": p50, "p95": p95} for metric, p50, p95 in rows},
    }
    if not rows:
        yield missing("No system metrics:", "nothing tells how much room there is.")
        return
    yield table(
        ["in use", "p50", "p95", "room above p95"],
        [
            [metric, points(p50), points(p95), points(max(0.0, 100 - (p95 or 0)))]
            for metric, p50, p95 in rows
        ],
    )
    size = figures.setting("batch_size")
    known = f"The batch size is {count(size)}. " if size else "The batch size is not recorded. "
    yield note(
        known,
        "A larger one pays where much of a step does not depend on it; the verdict works it out.",
    )
    yield from _judged(material, "BatchSize")


def cpu(material: Material) -> Iterator[Html]:
    """How often a GPU idles while processors are at their limit."""
    yield tag("h3", "CPU bottlenecks")
    yield from _bottleneck(material, BUSIEST, 90.0, "CPUBottleneck", "cpu_bottleneck")


def io(material: Material) -> Iterator[Html]:
    """How often a GPU idles while processors wait for disks."""
    yield tag("h3", "I/O bottlenecks")
    yield from _bottleneck(material, WAITING, 50.0, "IOBottleneck", "io_bottleneck")


def gpu_memory(material: Material) -> Iterator[Html]:
    """Every GPU's memory over time."""
    yield tag("h3", "GPU memory")
    series = material.figures.series
    found = series[series["metric"] == "GPU memory"]
    clock = material.clock
    if not len(found) or clock is None:
        yield _no_gpu(material)
        return
    traces = [
        scatter(
            *line(clock, rows["time"].to_numpy(float), rows["value"].to_numpy(float)),
            f"{node} {name}",
            nth(place),
            hovertemplate="%{y:.3g} %",
        )
        for place, ((node, name), rows) in enumerate(found.groupby(["node", "name"], observed=True))
    ]
    yield material.charts.add(
        "memory",
        "GPU memory over time",
        traces[:32],
        {"xaxis": clock.axis(), "yaxis": PERCENT},
        moments=material.marks("GPUMemoryIncrease"),
    )
    yield from _judged(material, "GPUMemoryIncrease")


def _bottleneck(
    material: Material, metric: str, limit: float, rule: str, key: str
) -> Iterator[Html]:
    """A GPU's use against what may hold it up, sample by sample."""
    pairs = _paired(material.figures.series, metric)
    if not len(pairs):
        series = material.figures.series
        had = len(series) and (series["metric"] == "GPU").any()
        yield (
            _no_gpu(material)
            if not had
            else missing(f"No {metric}:", "it was not measured beside the GPU.")
        )
        return
    gpu, other = pairs["gpu"].to_numpy(float), pairs["other"].to_numpy(float)
    idle, held = gpu < IDLE, other > limit
    shares = {
        "held up": float((idle & held).mean()),
        "idle for other reasons": float((idle & ~held).mean()),
        "at work": float((~idle).mean()),
    }
    material.data[key] = {"samples": len(pairs), **shares}
    yield bar(
        [
            Share(f"GPU idle, {metric} above {limit:.0f} %", shares["held up"], "--red"),
            Share("GPU idle for other reasons", shares["idle for other reasons"], "--yellow"),
            Share("GPU at work", shares["at work"], "--green"),
        ],
        "samples",
    )
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
    yield material.charts.add(
        key.replace("_", "-"),
        f"Samples by GPU use and {metric}; the lower right corner is a bottleneck",
        [trace],
        {
            "xaxis": axis(metric, ticksuffix=" %", showgrid=False),
            "yaxis": axis("GPU", ticksuffix=" %", showgrid=False),
            "hovermode": "closest",
        },
        height=300,
    )
    yield from _judged(material, rule)


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


def _judged(material: Material, rule: str) -> Iterator[Html]:
    """What the rule on this very question has to say."""
    for row in material.figures.rules:
        if row["rule"] == rule and row["kind"] == "profiler":
            said: list[Any] = [*material.linked([row["name"]]), ": "]
            said.append(str(row["reason"]).partition("\n")[0] or "nothing to say")
            if starved(row):
                said.append(f" ({looked(row)})")
            yield note(*said, ".")


def _no_gpu(material: Material) -> Html:
    device = material.figures.job["device"]
    if device is not None and not material.figures.on_gpu:
        return missing("No GPU:", "the job trained on processors.")
    return missing(
        "No GPU metrics:",
        f"the job’s device is {device}, but no GPU was measured: NVIDIA’s library was not found."
        if device
        else "no GPU was measured.",
    )
