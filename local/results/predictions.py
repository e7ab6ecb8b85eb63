"""Predictions of a model, image by image: as a table, as JSON Lines, with their accuracy."""

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
        top: (label, probability) pairs, best first; empty when it failed.
        error: why there is no prediction, in one line.
        resized: bytes of the smaller image that was sent; None when it was sent as it is.
        heat_map: the PNG that shows where in the image the label was found.
    """

    image: ImageFile
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    resized: int | None = None
    heat_map: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """As one line of JSON Lines."""
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
    """The predictions of a response body, `expected` of them.

    Raises:
        UserError: it is not what the container predictions.
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
        raise UserError(f'the response is {shown!r}, expected {{"predictions": […]}}') from None
    if len(found) != expected or not all(found):
        raise UserError(f"found {len(found)} predictions in the response, expected {expected}")
    return found


def read_heat_map(body: bytes) -> bytes:
    """The PNG of the only prediction in a response body that `read_predictions` has read.

    Raises:
        UserError: there is none.
    """
    found = json.loads(body)["predictions"][0].get("heat_map")
    try:
        png = base64.b64decode(found, validate=True)
    except (TypeError, ValueError):
        png = b""
    if not png.startswith(PNG):
        raise UserError("the response has no heat map: the endpoint's container cannot explain")
    return png


def heat_map_files(images: Sequence[ImageFile], folder: Path) -> dict[ImageFile, Path]:
    """A PNG file in `folder` for each image, named after it."""
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
        if not 0 <= probability <= 1:  # nor is NaN
            raise ValueError


def table(predictions: Sequence[ImagePrediction]) -> Table:
    """The predictions, a row each; truth beside them where it is known."""
    truths = any(prediction.image.truth is not None for prediction in predictions)
    more = max((len(prediction.top) for prediction in predictions), default=0) > 1
    shown = Table("image", *(["truth"] if truths else []), "prediction", "probability")
    if more:
        shown.add_column("then")
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
    """How many failed, how many were resized, and how many were right, a line each."""
    failed = sum(prediction.error is not None for prediction in predictions)
    resized = sum(prediction.resized is not None for prediction in predictions)
    judged = [each for each in predictions if each.image.truth is not None and each.error is None]
    right = sum(prediction.top[0][0] == prediction.image.truth for prediction in judged)
    lines = []
    if failed:
        lines.append(f"{failed} of {len(predictions)} images have no prediction")
    if resized:
        lines.append(f"{resized} images were resized to be sent")
    if judged:
        share = right / len(judged)
        lines.append(f"accuracy {share:.4f}: {right} of {len(judged)} as the folders say")
    return lines


def print_predictions(
    predictions: Sequence[ImagePrediction], *, as_json: bool, out: Console, notes: Console
) -> None:
    """Print the predictions, as a table or as JSON Lines, and the summary on `notes`."""
    if as_json:
        for line in json_lines(predictions):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        out.print(table(predictions))
    for line in summary(predictions):
        notes.print(line, highlight=False)


def json_lines(predictions: Iterable[ImagePrediction]) -> Iterable[str]:
    """A JSON document a line."""
    return (json.dumps(prediction.to_json(), ensure_ascii=False) for prediction in predictions)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(printable(text, "?"))
