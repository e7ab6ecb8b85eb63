"""What the network learned, step by step and epoch by epoch."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from container.monitoring.profiler.report.charts import axis, scatter
from container.monitoring.profiler.report.markup import Html, join, missing, note, table, tag, text
from container.monitoring.profiler.report.material import Material
from container.monitoring.profiler.report.page import anchor
from container.monitoring.profiler.report.series import BINS, means, rounded
from container.monitoring.profiler.units import count, number, percent

CURVES = (
    ("loss", "Loss", "--blue"),
    ("learning_rate", "Learning rate", "--green"),
    ("gradient_norm", "Gradient norm, before clipping", "--purple"),
)


def learning(material: Material) -> Iterator[Html]:
    """The curves over steps, then the epochs."""
    figures = material.figures.learning
    material.data["learning"] = figures
    yield from _curves(material)
    yield from _epochs(material, figures)


def _curves(material: Material) -> Iterator[Html]:
    curves = material.figures.recording.curves
    if not len(curves):
        yield missing("No curves:", "curves.jsonl, which profile and debug write, is not here.")
        return
    marks, anchors = _steps(material)
    steps = curves["step"].to_numpy(float)
    drawn = 0
    for name, caption, colour in CURVES:
        values = curves[name].to_numpy(float) if name in curves else np.empty(0)
        if not np.isfinite(values).any():
            yield missing(f"No {caption.lower()}:", "it was not recorded.")
            continue
        drawn += 1
        yield material.charts.add(
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
    lost = material.figures.learning["not_finite"]
    if lost:
        yield note(f"{count(lost)} recorded losses are infinite or undefined: the line has gaps.")
    if anchors:
        yield tag("h4", "Steps debugger rules fired at, as marked in the loss curve")
        yield tag("ul", join(anchors), class_="moments")


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


def _steps(material: Material) -> tuple[list[dict[str, Any]], list[Html]]:
    """The steps debugger rules fired at: marks, and the anchors that lead to them."""
    marks, anchors = [], []
    for each in material.moments:
        if each["kind"] != "debugger" or each["step"] is None:
            continue
        target = anchor("step", each["rule"], each["step"])
        words = f"{each['rule']} at step {count(each['step'])}"
        marks.append({"x": _place(material, each), "label": text(words), "anchor": target})
        anchors.append(tag("li", tag("a", words, href=f"#{target}"), id=target))
    return marks, anchors


def _place(material: Material, moment: dict[str, Any]) -> float:
    """Where a moment is on the axis of training steps.

    The debugger also counts validation's steps, so the time it fired at says it better.
    """
    curves = material.figures.recording.curves
    known = curves[np.isfinite(curves["time"].to_numpy(float))] if "time" in curves else curves[:0]
    if moment["time"] is None or not len(known):
        return float(moment["step"])
    at = np.interp(moment["time"], known["time"].to_numpy(float), known["step"].to_numpy(float))
    return float(round(float(at), 1))


def _epochs(material: Material, figures: dict[str, Any]) -> Iterator[Html]:
    records = figures["epochs"]
    yield tag("h3", "Epochs")
    if not records:
        yield missing("No epochs:", "metrics.jsonl is not here, or no epoch was finished.")
        return
    numbers = [row.get("epoch", place + 1) for place, row in enumerate(records)]
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
            charts.append(material.charts.add(f"epochs-{metric}", caption, traces, layout))
    yield tag("div", *charts, class_="pair")
    names = list(dict.fromkeys(name for row in records for name in row if name != "epoch"))
    rows = [
        [
            _numbered(numbers[place], figures["best_epoch"]),
            *(_figure(name, row.get(name)) for name in names),
        ]
        for place, row in enumerate(records)
    ]
    whole = table(["epoch", *names], rows)
    if len(rows) <= 15:
        yield whole
    else:
        summary = tag("summary", f"All {len(rows)} epochs as a table")
        yield tag("details", summary, whole, class_="more")


def _numbered(epoch: Any, best: int | None) -> str:
    return f"{epoch} (best)" if epoch == best else str(epoch)


def _figure(name: str, value: Any) -> str:
    if isinstance(value, int | float) and "accuracy" in name:
        return percent(value)
    return number(value) if isinstance(value, int | float) or value is None else str(value)


def _value(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
