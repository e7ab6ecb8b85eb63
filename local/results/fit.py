"""What a fit job found, from its `fit.json`, as far as it is what berth's image writes."""

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
        how: the images the accuracy was measured on.
        interval: its 95 % confidence interval.
        seconds: into the job when it was there.
        detail: what was chosen for it.
        chosen: whether it is the one that was kept.
    """

    name: str
    accuracy: Share
    interval: tuple[Share, Share]
    how: str
    seconds: NonNegative
    detail: str
    chosen: bool


class MadeChoice(_FitPart):
    """A decision and its reason."""

    what: str
    why: str


class FitReport(_FitPart):
    """What a fit job found.

    Attributes:
        chosen: the classifier that was kept.
        minutes, used_minutes: given and used.
        leaderboard: every classifier, the best first.
        choices: every decision.
        advice: what to photograph next.
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
        UserError: it is not what berth's image writes.
    """
    try:
        return FitReport.model_validate_json(read_bounded_file(path))
    except ValidationError as error:
        raise UserError(f"{path}: not berth's: {first_problem(error)}") from None


def fit_lines(path: Path) -> list[str]:
    """The classifier that was kept and the advice, for the end of a command."""
    try:
        report = read_fit(path)
    except UserError as error:
        return [f"unknown: {error}"]
    kept = f"{report.chosen}, after {report.used_minutes:.1f} of {report.minutes:g} minutes"
    return [kept, *([f"next: {report.advice}"] if report.advice else [])]
