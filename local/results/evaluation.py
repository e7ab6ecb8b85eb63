"""Validation of the `evaluation.json` and `metrics.jsonl` of a training job.

Any image may have written them, so they are checked against what berth's image writes.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.errors import UserError

LARGEST = 64_000_000
"""Largest file to read, in bytes; an evaluation of 1,000 classes on 50,000 images has 8,000,000."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class ClassReport(_Checked):
    """Metrics of one class.

    Attributes:
        support: number of its images.
    """

    precision: Share
    recall: Share
    f1: Share
    support: Count


class PrecisionReport(_Checked):
    """The model in bfloat16 or int8 compared with float32, on some of the images.

    Attributes:
        same_label: share of the images whose most probable class is the same.
        max_difference: largest difference of a probability.
        tolerance: percentage points of accuracy it may lose, if there is such a limit.
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
        split: the split of the images: test or validation.
        images: number of images.
        accuracy: share of the images whose most probable class is right.
        top5: share of the images whose class is among the five most probable.
        best_epoch: the epoch the weights are from.
        classes: precision, recall, F1 and support by class.
        precisions: comparisons with float32, by the name of the precision.
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
        UserError: it is not in the format of berth's image; the message names the field.
    """
    try:
        return EvaluationReport.model_validate_json(read_bounded_file(path))
    except ValidationError as error:
        raise UserError(f"{path}: not an evaluation by berth: {first_problem(error)}") from None


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """Read a `metrics.jsonl`, which has the metrics of an epoch per line.

    Raises:
        UserError: a line is not a JSON object; the message names it.
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
    """Read a file that a job wrote.

    Raises:
        UserError: it is larger than `LARGEST`.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise UserError(f"{path}: found {size:,} bytes, expected at most {LARGEST:,}")
    return path.read_bytes()


def first_problem(error: ValidationError) -> str:
    """The first validation error in one line, with the field's name."""
    details = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in details["loc"])
    message = " ".join(str(details["msg"]).split())
    return f"{where}: {message}" if where else message
