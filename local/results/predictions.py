"""Answers of a model, image by image: as a table, as JSON Lines, counted."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from local.client.images import Picture
from local.errors import UserError


@dataclass(frozen=True)
class Answer:
    """What came back for one image.

    Attributes:
        picture: the image.
        top: (label, probability) pairs, best first; empty when it failed.
        error: why there is no prediction, in one line.
        shrunk: bytes it was made smaller to before it was sent; None when it was sent as it is.
    """

    picture: Picture
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None
    shrunk: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As one line of JSON Lines."""
        out: dict[str, Any] = {"file": str(self.picture.path)}
        if self.picture.truth is not None:
            out["truth"] = self.picture.truth
        if self.error is not None:
            return out | {"error": self.error}
        label, probability = self.top[0]
        if self.shrunk is not None:
            out["shrunk_to"] = self.shrunk
        top = [{"label": name, "probability": value} for name, value in self.top]
        return out | {"label": label, "probability": probability, "top": top}


def read_predictions(body: bytes, expected: int) -> list[tuple[tuple[str, float], ...]]:
    """The predictions of a response body, `expected` of them.

    Raises:
        UserError: it is not what the container answers.
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
        raise UserError(f'the answer is {shown!r}, expected {{"predictions": […]}}') from None
    if len(found) != expected or not all(found):
        raise UserError(f"found {len(found)} predictions in the answer, expected {expected}")
    return found


def _check(rows: list[tuple[tuple[str, float], ...]]) -> None:
    for label, probability in (pair for row in rows for pair in row):
        if not isinstance(label, str):
            raise TypeError
        if not 0 <= probability <= 1:  # nor is NaN
            raise ValueError


def table(answers: Sequence[Answer]) -> Table:
    """The answers, a row each; truth beside them where it is known."""
    truths = any(answer.picture.truth is not None for answer in answers)
    more = max((len(answer.top) for answer in answers), default=0) > 1
    shown = Table("image", *(["truth"] if truths else []), "prediction", "probability")
    if more:
        shown.add_column("then")
    for answer in answers:
        truth = answer.picture.truth
        row = [_plain(answer.picture.name), *([_plain(truth or "")] if truths else [])]
        if answer.error is not None:
            shown.add_row(*row, f"[red]{_plain(answer.error)}[/red]")
            continue
        (label, probability), *rest = answer.top
        colour = None if truth is None else ("green" if label == truth else "red")
        named = _plain(label)
        cells = [f"[{colour}]{named}[/{colour}]" if colour else named, f"{probability:.4f}"]
        if more:
            cells.append(", ".join(f"{_plain(name)} {value:.2f}" for name, value in rest))
        shown.add_row(*row, *cells)
    return shown


def summary(answers: Sequence[Answer]) -> list[str]:
    """How many failed, how many were made smaller, and how many were right, a line each."""
    failed = sum(answer.error is not None for answer in answers)
    shrunk = sum(answer.shrunk is not None for answer in answers)
    judged = [each for each in answers if each.picture.truth is not None and each.error is None]
    right = sum(answer.top[0][0] == answer.picture.truth for answer in judged)
    said = []
    if failed:
        said.append(f"{failed} of {len(answers)} images have no prediction")
    if shrunk:
        said.append(f"{shrunk} images were made smaller to be sent")
    if judged:
        share = right / len(judged)
        said.append(f"accuracy {share:.4f}: {right} of {len(judged)} as the folders say")
    return said


def show(answers: Sequence[Answer], *, as_json: bool, out: Console, notes: Console) -> None:
    """Print the answers, as a table or as JSON Lines, and the summary on `notes`."""
    if as_json:
        for line in json_lines(answers):
            out.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        out.print(table(answers))
    for line in summary(answers):
        notes.print(line, highlight=False)


def json_lines(answers: Iterable[Answer]) -> Iterable[str]:
    """A JSON document a line."""
    return (json.dumps(answer.to_json(), ensure_ascii=False) for answer in answers)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "?" for c in text))
