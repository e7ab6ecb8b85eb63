"""Learning curves by step and by epoch."""

import math
from typing import Any

import numpy as np

from container.monitoring.profiler.report.context import Link, ReportContext, anchor
from container.monitoring.profiler.report.series import BINS, means, rounded
from container.monitoring.profiler.units import count, number, percent
from container.pages.charts import Chart, axis, label, scatter

CURVES = (
    ("loss", "Loss", "--blue"),
    ("learning_rate", "Learning rate", "--green"),
    ("gradient_norm", "Gradient norm, before clipping", "--purple"),
)


def learning(report: ReportContext) -> dict[str, Any]:
    """The curves over steps, then the epochs."""
    metrics = report.metrics.learning
    report.data["learning"] = metrics
    records = metrics["epochs"]
    numbers = [row.get("epoch", place + 1) for place, row in enumerate(records)]
    names = list(dict.fromkeys(name for row in records for name in row if name != "epoch"))
    steps = _steps(report) if len(report.metrics.recording.curves) else []
    return {
        "curves": _curves(report, steps),
        "not_finite": metrics["not_finite"],
        "steps": [link for _, link in steps],
        "charts": _epochs(report, records, numbers) if records else [],
        "header": ["epoch", *names],
        "rows": [
            [
                _numbered(epoch, metrics["best_epoch"]),
                *(_figure(name, row.get(name)) for name in names),
            ]
            for epoch, row in zip(numbers, records, strict=True)
        ],
    }


def _curves(
    report: ReportContext, fired: list[tuple[float, Link]]
) -> list[tuple[str, Chart | None]]:
    """Each curve's caption, and its chart if it was recorded."""
    curves = report.metrics.recording.curves
    if not len(curves):
        return []
    marks = [{"x": x, "label": label(link.text), "anchor": link.target} for x, link in fired]
    steps = curves["step"].to_numpy(float)
    found: list[tuple[str, Chart | None]] = []
    for name, caption, colour in CURVES:
        values = curves[name].to_numpy(float) if name in curves else np.empty(0)
        if not np.isfinite(values).any():
            found.append((caption, None))
            continue
        chart = report.charts.add(
            f"curve-{name}",
            caption,
            _traces(steps, values, name, colour),
            {
                "xaxis": axis("step"),
                "yaxis": _scale(values) if name != "learning_rate" else {"rangemode": "tozero"},
                "showlegend": False,
            },
            height=280 if name == "loss" else 210,
            moments=marks if name == "loss" else (),
        )
        found.append((caption, chart))
    return found


def _traces(steps: Any, values: Any, name: str, colour: str) -> list[dict[str, Any]]:
    """The values themselves, faint where there are many, and their mean in bins above them."""
    raw = scatter(
        rounded(steps, 7), rounded(values), name, colour, hovertemplate="%{y:.4g}<extra></extra>"
    )
    if len(steps) <= 1.5 * BINS or name == "learning_rate":
        return [raw if len(steps) <= 1.5 * BINS else _thin(steps, values, name, colour)]
    edges = np.linspace(steps.min(), steps.max(), BINS // 4 + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    mean = scatter(
        rounded(middles, 7),
        rounded(means(steps, values, edges)),
        "mean",
        colour,
        hovertemplate="%{y:.4g}<extra></extra>",
    )
    every = math.ceil(len(steps) / 1500)
    faint = scatter(
        rounded(steps[::every], 7),
        rounded(values[::every]),
        name,
        "--gray",
        opacity=0.55,
        hoverinfo="skip",
    )
    faint["line"] = {"color": "--gray", "width": 0.8}
    return [faint, mean]


def _thin(steps: Any, values: Any, name: str, colour: str) -> dict[str, Any]:
    every = math.ceil(len(steps) / BINS)
    return scatter(
        rounded(steps[::every], 7),
        rounded(values[::every]),
        name,
        colour,
        hovertemplate="%{y:.4g}<extra></extra>",
    )


def _scale(values: Any) -> dict[str, Any]:
    """Logarithmic where values span more than two orders of magnitude."""
    good = values[np.isfinite(values)]
    if good.min() > 0 and good.max() > 100 * np.median(good):
        return {"type": "log"}
    return {"rangemode": "tozero"} if good.min() >= 0 else {}


def _steps(report: ReportContext) -> list[tuple[float, Link]]:
    """The steps debugger rules fired at: where on the axis of steps, and the link that marks it."""
    return [
        (
            _place(report, each),
            Link(
                anchor("step", each["rule"], each["step"]),
                f"{each['rule']} at step {count(each['step'])}",
            ),
        )
        for each in report.moments
        if each["kind"] == "debugger" and each["step"] is not None
    ]


def _place(report: ReportContext, moment: dict[str, Any]) -> float:
    """Where a moment is on the axis of training steps.

    The debugger also counts validation's steps, so the time it fired at says it better.
    """
    curves = report.metrics.recording.curves
    known = curves[np.isfinite(curves["time"].to_numpy(float))] if "time" in curves else curves[:0]
    if moment["time"] is None or not len(known):
        return float(moment["step"])
    at = np.interp(moment["time"], known["time"].to_numpy(float), known["step"].to_numpy(float))
    return float(round(float(at), 1))


def _epochs(
    report: ReportContext, records: list[dict[str, Any]], numbers: list[Any]
) -> list[Chart]:
    charts = []
    for metric, caption in (("loss", "Loss by epoch"), ("accuracy", "Accuracy by epoch")):
        traces = [
            scatter(
                numbers,
                rounded([_value(row.get(f"{split}:{metric}")) for row in records]),
                split,
                colour,
                mode="lines+markers" if len(records) <= 60 else "lines",
                marker={"size": 5},
            )
            for split, colour in (("train", "--blue"), ("validation", "--orange"))
            if any(row.get(f"{split}:{metric}") is not None for row in records)
        ]
        if traces:
            layout: dict[str, Any] = {"xaxis": axis("epoch")}
            layout["yaxis"] = {"tickformat": ".0%"} if metric == "accuracy" else {}
            if len(records) <= 12:
                layout["xaxis"]["dtick"] = 1
            charts.append(report.charts.add(f"epochs-{metric}", caption, traces, layout))
    return charts


def _numbered(epoch: Any, best: int | None) -> str:
    return f"{epoch} (best)" if epoch == best else str(epoch)


def _figure(name: str, value: Any) -> str:
    if isinstance(value, int | float) and "accuracy" in name:
        return percent(value)
    return number(value) if isinstance(value, int | float) or value is None else str(value)


def _value(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
