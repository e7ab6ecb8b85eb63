"""The profiler's report: the one a job wrote, or one made locally from its recording."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from container.extras import extra_missing
from container.rules.profiler import PROFILER_RULES
from local.errors import UserError
from local.requests.monitoring import profiler_rules
from local.requests.training import canonical
from local.requests.tuning import unquote_json
from local.results.downloads import OUTPUT

HTML = "profiler-report.html"
LOCAL_REPORT = "report"
"""The subfolder for a report that was made locally."""
STATUSES = "profiler-rules.json"
"""The rule statuses next to a locally made report."""
PROFILER_OUTPUT = "profiler-output"
"""The folder with the recording of AWS's profiler, in the job's folder and in S3."""
NEEDED = ("numpy", "pandas", "plotly")
LARGEST_FIGURES = 64_000_000
"""Largest `report.json` to read, in bytes."""


def find_report(folder: Path) -> Path | None:
    """The report in a job's folder; a locally made one takes precedence over the job's own."""
    local = folder / LOCAL_REPORT / HTML
    if local.is_file():
        return local
    reports = sorted((folder / OUTPUT).rglob(f"report/{HTML}"))
    return next((path for path in reports if path.is_file() and not path.is_symlink()), None)


def find_recording(folder: Path) -> Path | None:
    """The folder with a job's recording below the job's folder; None if there is none."""
    if any((folder / OUTPUT).rglob("profiler/**/*.json")):
        return folder / OUTPUT
    aws = folder / PROFILER_OUTPUT
    return aws if aws.is_dir() else None


def make_report(recording: Path, into: Path, parameters: Mapping[str, str]) -> Path:
    """Write the report of a recording and return the page's path.

    Args:
        recording: a job's unpacked outputs, a profiler's root, or AWS's `profiler-output`.
        into: the folder for the report.
        parameters: `<Rule>_<parameter>` of the profiler's rules.

    Raises:
        UserError: a parameter is unknown, or a required package is not installed.
    """
    rules = profiler_rules(parameters)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            extra_missing(f"the profiler's report needs {', '.join(missing)}", "report")
        )
    from container.monitoring.profiler.report import write_report

    into.mkdir(parents=True, exist_ok=True)
    return write_report(recording, into, rules).page


def parameters_of(job: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of profiler rules in a training job's request.

    Args:
        job: the DescribeTrainingJob response; parameters that cannot be parsed are skipped.
    """
    requested: dict[str, Any] = {}
    for rule in job.get("ProfilerRuleConfigurations", []):
        requested |= rule.get("RuleParameters", {})
    given = {canonical(name): value for name, value in job.get("HyperParameters", {}).items()}
    try:
        found = json.loads(unquote_json(given.get("rule_parameters", "{}")))
    except (ValueError, RecursionError):
        found = {}
    requested |= found if isinstance(found, dict) else {}
    known = {
        f"{rule}_{parameter}".lower()
        for rule, spec in PROFILER_RULES.items()
        for parameter in spec.parameters
    }
    return {name: str(value) for name, value in requested.items() if name.lower() in known}


def first_sentence(page: Path) -> str:
    """The verdict's first sentence, from the report's `report.json`; "" if there is none."""
    figures = page.with_name("report.json")
    try:
        if figures.stat().st_size > LARGEST_FIGURES:
            return ""
        found: Any = json.loads(figures.read_bytes())["verdict"]["sentences"][0]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    if not isinstance(found, str):
        return ""
    return " ".join(found.encode("utf-8", "replace").decode().split())
