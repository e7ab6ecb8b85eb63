"""The chart of a fit job: accuracy over time, and the learning curve if there is one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.ticker import NullLocator

from container.results.charts import new_figure, save_figure


def draw_fit(found: Mapping[str, Any], folder: Path) -> Path:
    """Draw `fit.png` from the values that `container.fit.report.output.described` returns."""
    curve = found.get("curve")
    figure = new_figure(11 if curve else 6, 4)
    panels = figure.subplots(1, 2 if curve else 1, squeeze=False)
    _by_minute(panels[0][0], found)
    if curve:
        _learning_curve(panels[0][1], curve)
    return save_figure(figure, folder / "fit.png")


def _by_minute(axes: Any, found: Mapping[str, Any]) -> None:
    """Every measurement, and the chosen classifier's accuracy with its interval."""
    for name in dict.fromkeys(point["name"] for point in found["points"]):
        points = [point for point in found["points"] if point["name"] == name]
        axes.plot(
            [point["minutes"] for point in points],
            [point["accuracy"] for point in points],
            marker=".",
            linewidth=1,
            label=name.replace("$", r"\$"),
        )
    kept = found["by_minute"]
    minutes = [*(point["minutes"] for point in kept), found["used_minutes"]]
    accuracies = [*(point["accuracy"] for point in kept), kept[-1]["accuracy"]]
    axes.step(minutes, accuracies, where="post", color="black", label="kept")
    low = [*(point["low"] for point in kept), kept[-1]["low"]]
    high = [*(point["high"] for point in kept), kept[-1]["high"]]
    axes.fill_between(
        minutes, low, high, step="post", color="black", alpha=0.1, label="95 % interval"
    )
    axes.set(xlabel="minutes", ylabel="validation accuracy", title="Accuracy against minutes")
    axes.set_xlim(0, None)
    axes.legend(fontsize=8)


def _learning_curve(axes: Any, curve: Mapping[str, Any]) -> None:
    """The measured errors, and the power law through them to twice the images."""
    images = list(curve["images"])
    axes.plot(images, [1 - each for each in curve["accuracies"]], "o", label="measured")
    further = [*images, 2 * images[-1]]
    line = [curve["factor"] * each ** -curve["exponent"] for each in further]
    axes.plot(further, line, "--", label="power law")
    axes.plot([further[-1]], [1 - curve["doubled"]], "*", markersize=10, label="twice the images")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="training images",
        ylabel="error",
        title="Learning curve of the best probe",
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(further, [f"{each:,}" for each in further])
    axes.legend(fontsize=8)
