"""`berth report`: what a job left, as one page in the browser."""

import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from local.errors import UserError
from local.options import Common, with_common
from local.outputs import OUTPUT, bring_home
from local.place import Place
from local.report_page import write_report_page
from local.resources import TRAIN, TUNE, find


@with_common
def report(
    common: Common,
    name: Annotated[str, typer.Argument(help="of a training or tuning job")],
    *,
    output_dir: Annotated[
        Path | None, typer.Option(help="where it goes (default: a folder named like the job)")
    ] = None,
    show: Annotated[bool, typer.Option("--open/--no-open", help="in the browser")] = True,
) -> None:
    """Look at what a job left: accuracy, confusion, curves, mistakes; or a search's trials."""
    place = common.connect(needs_role=False)
    kind, answer = find(place.client("sagemaker"), name, (TRAIN, TUNE))[0]
    folder = output_dir or Path(name)
    page = (
        _training(place, answer, folder) if kind is TRAIN else _tuning(place, answer, folder)
    ).resolve()
    print(page)
    if show:
        webbrowser.open(page.as_uri())


def _training(place: Place, job: Mapping[str, Any], folder: Path) -> Path:
    if job["TrainingJobStatus"] == "InProgress":
        raise UserError(
            f"{job['TrainingJobName']}: still running; watch it: "
            + place.command("logs", "-f", job["TrainingJobName"])
        )
    if not (folder / OUTPUT).is_dir():
        bring_home(place, job, folder, model=False)
    return write_report_page(job, folder)


def _tuning(place: Place, job: Mapping[str, Any], folder: Path) -> Path:
    from local.trials import list_trials
    from local.tuning_page import write_page

    page = folder / "tuning.html"
    name = job["HyperParameterTuningJobName"]
    write_page(job, list_trials(place.client("sagemaker"), name), page)
    return page


if __name__ == "__main__":
    from local.cli import main

    sys.exit(main("report"))
