"""What a training job's image wrote about its model, as far as it is what berth's image writes.

Any image may have run: what it left is checked before it is shown.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.errors import UserError

LARGEST = 64_000_000
"""Bytes of a file that is read; the evaluation of 1,000 classes on 50,000 images is 8,000,000."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class ClassReport(_Checked):
    """How well a class was told from the others.

    Attributes:
        support: its images.
    """

    precision: Share
    recall: Share
    f1: Share
    support: Count


class PrecisionReport(_Checked):
    """The model in bfloat16 or int8 beside itself in float32, on some of the images.

    Attributes:
        same_label: share of them whose most probable class is the same.
        max_difference: largest difference of one probability.
        tolerance: percentage points of accuracy it may lose, where that is bounded in these.
    """

    images: Count
    accuracy: Share
    float32_accuracy: Share
    same_label: Share
    max_difference: Share
    tolerance: float | None = None


class EvaluationReport(_Checked):
    """The accuracy of a model, from `evaluation.json`.

    Attributes:
        split: the images' split: test or validation.
        images: how many there were.
        accuracy: share of them whose most probable class is right.
        top5: share of them whose class is among the five most probable.
        best_epoch: the epoch the weights come from.
        classes: precision, recall, F1 and support by class.
        precisions: what serving it in less than float32 costs, by the precision's name.
    """

    split: str
    images: Count
    accuracy: Share
    top5: Share
    best_epoch: Count
    classes: dict[str, ClassReport]
    precisions: dict[str, PrecisionReport] = {}


def read_evaluation(path: Path) -> EvaluationReport:
    """Read an `evaluation.json`.

    Raises:
        UserError: it is not what berth's image writes; the line names the field.
    """
    try:
        return EvaluationReport.model_validate_json(read_bounded_file(path))
    except ValidationError as error:
        raise UserError(f"{path}: not berth's evaluation: {first_problem(error)}") from None


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Read a `metrics.jsonl`: what was measured, epoch by epoch.

    Raises:
        UserError: a line is no JSON object; it is named.
    """
    epochs = []
    for number, line in enumerate(read_bounded_file(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            epoch = json.loads(line)
        except (ValueError, RecursionError):
            epoch = None
        if not isinstance(epoch, dict):
            shown = line[:60].decode(errors="replace")
            raise UserError(f"{path}: line {number}: found {shown!r}, expected a JSON object")
        epochs.append(epoch)
    return epochs


def read_bounded_file(path: Path) -> bytes:
    """The bytes of a file that a job left. Raises UserError for more than `LARGEST`."""
    size = path.stat().st_size
    if size > LARGEST:
        raise UserError(f"{path}: found {size:,} bytes, expected at most {LARGEST:,}")
    return path.read_bytes()


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    details = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in details["loc"])
    message = " ".join(str(details["msg"]).split())
    return f"{where}: {message}" if where else message
