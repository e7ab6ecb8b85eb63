"""Charts as PNG files: confusion matrix, training curves and wrong predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from container.images.decode import use_image

SIDE = 256
"""Pixels of the longer side of each image in `worst.png`."""

NUMBERED = 20
"""With up to this many classes, a confusion matrix shows counts and class names."""


def draw_confusion(confusion: npt.NDArray[np.int64], classes: Sequence[str], folder: Path) -> Path:
    """Draw `confusion.png`: int64 (C, C) counts, coloured by share of the true class."""
    count = len(classes)
    side = min(4 + 0.35 * count, 16)
    figure = new_figure(side, side)
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    if count <= NUMBERED:
        axes.set_xticks(range(count), [_escape_dollar(n) for n in classes], rotation=60, ha="right")
        axes.set_yticks(range(count), [_escape_dollar(n) for n in classes])
        for row, column in np.argwhere(confusion):
            axes.text(
                column,
                row,
                str(confusion[row, column]),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share[row, column] > 0.5 else "black",
            )
    return save_figure(figure, folder / "confusion.png")


def draw_curves(history: Sequence[Mapping[str, float | None]], folder: Path) -> Path:
    """Draw `curves.png`: loss, accuracy and learning rate by epoch."""
    epochs = [record["epoch"] for record in history]
    figure = new_figure(13, 3.8)
    losses, accuracies, rates = figure.subplots(1, 3)
    for axes, metric in ((losses, "loss"), (accuracies, "accuracy")):
        for split in ("train", "validation"):
            values = [record[f"{split}:{metric}"] for record in history]
            axes.plot(epochs, values, marker=".", label=split)
        axes.set(xlabel="epoch", title=metric)
        axes.legend()
    for axes in (losses, accuracies, rates):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    rates.plot(epochs, [record["learning_rate"] for record in history], marker=".")
    rates.set(xlabel="epoch", title="learning rate at the epoch's end")
    return save_figure(figure, folder / "curves.png")


def draw_worst(
    images: Sequence[bytes], worst: Sequence[Mapping[str, Any]], folder: Path
) -> Path | None:
    """Draw `worst.png`: the most confident wrong predictions; None and no file without any.

    `images` are the files' bytes, in the order of `worst`.
    """
    if not worst:
        return None
    columns = 4
    rows = -(-len(worst) // columns)
    figure = new_figure(12, 3.2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, subplot_kw={"xticks": (), "yticks": ()})
    for axes in grid.flat:
        axes.axis("off")
    for axes, mistake, data in zip(grid.flat, worst, images, strict=False):
        axes.imshow(use_image(data, _thumbnail, name=mistake["path"], at_least=(SIDE, SIDE)))
        axes.set_title(
            f"{_escape_dollar(mistake['label'])}, predicted\n"
            f"{_escape_dollar(mistake['predicted'])} ({mistake['probability']:.0%})",
            fontsize=9,
        )
    return save_figure(figure, folder / "worst.png")


def _thumbnail(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, 3), the longer side at most `SIDE` pixels."""
    picture.thumbnail((SIDE, SIDE))
    return np.array(picture)


def _escape_dollar(name: str) -> str:
    """Escape `$` in a class name, which matplotlib would parse as math."""
    return name.replace("$", r"\$")


def new_figure(width: float, height: float) -> Any:
    """Make an empty figure of this size in inches, laid out on saving, without importing pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> Path:
    """Lay the figure out and write it as PNG; returns `path`."""
    # `savefig` would draw everything a second time to run the layout engine.
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    figure.savefig(path, dpi=110)
    return path
