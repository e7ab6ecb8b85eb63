"""Validation of the `fit.json` of a fit job."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local.errors import UserError
from local.results.evaluation import first_problem, read_bounded_file

FILE = "fit.json"

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]


class _FitPart(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class TriedClassifier(_FitPart):
    """A row of the leaderboard.

    Attributes:
        interval: 95 % confidence interval of the accuracy.
        how: the images the accuracy was measured on.
        seconds: time from the job's start to this result.
        detail: its settings.
        chosen: whether it is the job's model.
    """

    name: str
    accuracy: Share
    interval: tuple[Share, Share]
    how: str
    seconds: NonNegative
    detail: str
    chosen: bool


class MadeChoice(_FitPart):
    """A decision of the job and the reason for it."""

    what: str
    why: str


class FitReport(_FitPart):
    """The result of a fit job.

    Attributes:
        chosen: the classifier that became the model.
        minutes: the time limit.
        used_minutes: the time used.
        leaderboard: every classifier, best first.
        choices: every decision.
        advice: which images to add.
        no_curve: why there is no learning curve.
    """

    chosen: str
    minutes: NonNegative
    used_minutes: NonNegative
    leaderboard: tuple[TriedClassifier, ...]
    choices: tuple[MadeChoice, ...]
    advice: str = ""
    no_curve: str = ""


def read_fit(path: Path) -> FitReport:
    """Read a `fit.json`.

    Raises:
        UserError: it is not in the format of berth's image.
    """
    try:
        return FitReport.model_validate_json(read_bounded_file(path))
    except ValidationError as error:
        raise UserError(f"{path}: not a fit report by berth: {first_problem(error)}") from None


def fit_lines(path: Path) -> list[str]:
    """The chosen classifier and the advice, for the end of a command's output."""
    try:
        report = read_fit(path)
    except UserError as error:
        return [f"unknown: {error}"]
    kept = f"{report.chosen}, after {report.used_minutes:.1f} of {report.minutes:g} minutes"
    return [kept, *([f"next: {report.advice}"] if report.advice else [])]
