"""Predictions for images: parsing of responses, and output as a table or as JSON Lines."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from local.client.console import printable
from local.client.images import ImageFile
from local.errors import UserError

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class ImagePrediction:
    """The prediction for one image, or why there is none.

    Attributes:
        image: the image.
        top: (label, probability) pairs, best first; empty if it failed.
        error: one line on why there is no prediction.
        resized: bytes of the resized image that was sent; None if it was sent unchanged.
        heat_map: the file with the heat map for the predicted label.
    """

    image: ImageFile
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    resized: int | None = None
    heat_map: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The object for a line of JSON Lines."""
        out: dict[str, Any] = {"file": str(self.image.path)}
        if self.image.truth is not None:
            out["truth"] = self.image.truth
        if self.error is not None:
            return out | {"error": self.error}
        label, probability = self.top[0]
        if self.resized is not None:
            out["shrunk_to"] = self.resized
        if self.heat_map is not None:
            out["heat_map"] = str(self.heat_map)
        top = [{"label": name, "probability": value} for name, value in self.top]
        return out | {"label": label, "probability": probability, "top": top}


def read_predictions(body: bytes, expected: int) -> list[tuple[tuple[str, float], ...]]:
    """Parse the predictions in a response body.

    Raises:
        UserError: it has another format, or there are not `expected` predictions.
    """
    try:
        rows = json.loads(body)["predictions"]
        found = [
            tuple((pair["label"], float(pair["probability"])) for pair in row["top"])
            for row in rows
        ]
        _check(found)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        shown = " ".join(body[:80].decode(errors="replace").split())
        raise UserError(f'response: found {shown!r}, expected {{"predictions": […]}}') from None
    if len(found) != expected or not all(found):
        raise UserError(f"response: found {len(found)} predictions, expected {expected}")
    return found


def read_heat_map(body: bytes) -> bytes:
    """The heat map, a PNG, in a response body that has passed `read_predictions`.

    Raises:
        UserError: there is none.
    """
    found = json.loads(body)["predictions"][0].get("heat_map")
    try:
        png = base64.b64decode(found, validate=True)
    except (TypeError, ValueError):
        png = b""
    if not png.startswith(PNG):
        raise UserError("response: found no heat map; the container does not support --explain")
    return png


def heat_map_files(images: Sequence[ImageFile], folder: Path) -> dict[ImageFile, Path]:
    """The path of each image's PNG in `folder`, named after the image and unique."""
    files: dict[ImageFile, Path] = {}
    taken: Counter[str] = Counter()
    for image in images:
        name = re.sub(r"[^\w.-]+", "-", image.name).strip(".-")
        taken[name.casefold()] += 1
        number = taken[name.casefold()]
        files[image] = folder / (f"{name}.png" if number == 1 else f"{name} {number}.png")
    return files


def _check(rows: list[tuple[tuple[str, float], ...]]) -> None:
    for label, probability in (pair for row in rows for pair in row):
        if not isinstance(label, str):
            raise TypeError
        if not 0 <= probability <= 1:  # also true for NaN
            raise ValueError


def table(predictions: Sequence[ImagePrediction]) -> Table:
    """A row per prediction, with the true class if any is known."""
    truths = any(prediction.image.truth is not None for prediction in predictions)
    more = max((len(prediction.top) for prediction in predictions), default=0) > 1
    shown = Table("image", *(["truth"] if truths else []), "prediction", "probability")
    if more:
        shown.add_column("next")
    for prediction in predictions:
        truth = prediction.image.truth
        row = [_escaped(prediction.image.name), *([_escaped(truth or "")] if truths else [])]
        if prediction.error is not None:
            shown.add_row(*row, f"[red]{_escaped(prediction.error)}[/red]")
            continue
        (label, probability), *rest = prediction.top
        colour = None if truth is None else ("green" if label == truth else "red")
        named = _escaped(label)
        cells = [f"[{colour}]{named}[/{colour}]" if colour else named, f"{probability:.4f}"]
        if more:
            cells.append(", ".join(f"{_escaped(name)} {value:.2f}" for name, value in rest))
        shown.add_row(*row, *cells)
    return shown


def summary(predictions: Sequence[ImagePrediction]) -> list[str]:
    """Lines on how many predictions failed, how many images were resized, and the accuracy."""
    failed = sum(prediction.error is not None for prediction in predictions)
    resized = sum(prediction.resized is not None for prediction in predictions)
    judged = [each for each in predictions if each.image.truth is not None and each.error is None]
    right = sum(prediction.top[0][0] == prediction.image.truth for prediction in judged)
    lines = []
    if failed:
        lines.append(f"{failed} of {len(predictions)} images have no prediction")
    if resized:
        lines.append(f"{resized} images were resized")
    if judged:
        share = right / len(judged)
        lines.append(f"accuracy {share:.4f}: {right} of {len(judged)} match their folders")
    return lines


def print_predictions(
    predictions: Sequence[ImagePrediction], *, as_json: bool, out: Console, notes: Console
) -> None:
    """Print the predictions to `out` as a table or as JSON Lines, and the summary to `notes`."""
    if as_json:
        for line in json_lines(predictions):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        out.print(table(predictions))
    for line in summary(predictions):
        notes.print(line, highlight=False)


def json_lines(predictions: Iterable[ImagePrediction]) -> Iterable[str]:
    """One JSON document per prediction."""
    return (json.dumps(prediction.to_json(), ensure_ascii=False) for prediction in predictions)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text, "?"))
