"""The profiler's report: the one a job left, or one made on this machine from its recording."""

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
"""Where, in the job's folder, a report lies that was made on this machine."""
STATUSES = "profiler-rules.json"
"""Beside a report that was made on this machine: what the rules found."""
PROFILER_OUTPUT = "profiler-output"
"""Where, in the job's folder and in S3, AWS's profiler keeps what it records."""
NEEDED = ("numpy", "pandas", "plotly")
LARGEST_FIGURES = 64_000_000
"""Bytes of a `report.json` that is looked into."""


def find_report(folder: Path) -> Path | None:
    """The report in a job's folder: one made here comes before the one the job left."""
    here = folder / LOCAL_REPORT / HTML
    if here.is_file():
        return here
    left = sorted((folder / OUTPUT).rglob(f"report/{HTML}"))
    return next((path for path in left if path.is_file() and not path.is_symlink()), None)


def find_recording(folder: Path) -> Path | None:
    """What a job recorded, below its folder, if anything."""
    if any((folder / OUTPUT).rglob("profiler/**/*.json")):
        return folder / OUTPUT
    aws = folder / PROFILER_OUTPUT
    return aws if aws.is_dir() else None


def make_report(recording: Path, into: Path, parameters: Mapping[str, str]) -> Path:
    """Make the report of a folder of measurements; gives the page's path.

    Args:
        recording: a job's unpacked outputs, a profiler's root, or AWS's `profiler-output`.
        into: where it goes.
        parameters: `<Rule>_<parameter>` of the profiler's rules.

    Raises:
        UserError: a parameter is unknown, or something the report needs is not installed.
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
    """The parameters of the profiler's rules of a training job's request.

    Args:
        job: DescribeTrainingJob's answer; what cannot be parsed is left out.
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
    """The verdict's first sentence, from the `report.json` beside a report; "" without one."""
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
