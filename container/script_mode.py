"""Script mode: entries that the SageMaker SDK's framework estimators add to hyperparameters.

An `entry_point` travels in `sagemaker_program` and `sagemaker_submit_directory`, names of the
sagemaker-training toolkit (its `params.py`). This image trains its own classifiers and runs no
scripts, so a job that names one is refused: training without it would be another job. The other
entries (`sagemaker_job_name`, `sagemaker_region`, `sagemaker_container_log_level`, ...) are not
needed here.
"""

from collections.abc import Mapping
from typing import Any

from container.errors import ScriptError

PREFIX = "sagemaker_"
SCRIPT = ("program", "submit_directory")


def refuse_script(hyperparameters: Mapping[str, Any]) -> None:
    """Raise ScriptError if hyperparameters name a script or its location."""
    for name, value in hyperparameters.items():
        plain = name.strip().lower().replace("-", "_")
        if plain in {f"{PREFIX}{end}" for end in SCRIPT} and _names_something(value):
            raise ScriptError(_line(f"hyperparameter {plain!r}", value))


def refuse_script_variables(variables: Mapping[str, str]) -> None:
    """Raise ScriptError if environment variables name a script or its location."""
    for end in SCRIPT:
        name = f"{PREFIX}{end}".upper()
        if _names_something(variables.get(name)):
            raise ScriptError(_line(f"environment variable {name}", variables[name]))


def ignored(hyperparameters: Mapping[str, Any]) -> list[str]:
    """The names of entries that have no effect."""
    return sorted(name for name in hyperparameters if name.startswith(PREFIX))


def _names_something(value: object) -> bool:
    return str(value if value is not None else "").strip().strip('"') not in {"", "null", "None"}


def _line(what: str, value: object) -> str:
    found = str(value).strip().strip('"')[:80]
    return (
        f"{what}: found {found!r}, but this image trains its own image classifiers and runs no "
        "script; omit entry_point, source_dir and source_code and keep the other hyperparameters "
        "(an Estimator or ModelTrainer with only this image), or run the script in a framework's "
        "image"
    )
