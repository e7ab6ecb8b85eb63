"""Writes the report of a folder.

python -m container.monitoring.profiler.report FOLDER --into DIR
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from container.errors import BerthError
from container.files.json_files import replace_text, to_json
from container.monitoring.profiler.report import write_report
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import RuleRequest, from_configurations, parse_rules


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdict and the HTML's path on standard output, progress on standard error.

    Returns:
        0, or 1 if the HTML or the statuses could not be written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m container.monitoring.profiler.report",
        description="Writes a profiled job's report: one HTML file, and every figure as JSON.",
    )
    parser.add_argument(
        "folder",
        type=Path,
        help="an unpacked output.tar.gz, output/data, a profiler folder, or a SageMaker job's "
        "folder with profiler-output",
    )
    parser.add_argument("--into", type=Path, required=True, help="folder the report goes into")
    parser.add_argument(
        "--rules",
        help='profiler rules as JSON: a list of names (["BatchSize"]), of SageMaker’s '
        'ProfilerRuleConfigurations, or parameters ({"BatchSize_patience": 100}) for all rules',
    )
    parser.add_argument("--statuses", type=Path, help="file for the statuses of the given rules")
    options = parser.parse_args(arguments)
    try:
        rules = None if options.rules is None else read_rules(options.rules)
        report = write_report(options.folder, options.into, rules, say=_say)
        if report.verdict:
            print(f"verdict: {report.verdict}")
        print(f"report: {report.page}")
        if options.statuses is not None:
            replace_text(options.statuses, to_json(report.statuses, indent=1))
    except (BerthError, OSError) as error:
        _say(str(error))
        return 1
    return 0


def read_rules(text: str) -> tuple[RuleRequest, ...]:
    """Rules from `--rules`.

    Raises:
        BerthError: it is not JSON of one of the three shapes, or a rule or parameter is unknown.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise BerthError(f"--rules: expected JSON, found {text!r}: {error}") from None
    if isinstance(given, dict):
        return parse_rules(PROFILER_RULES, ["auto"], given)
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        return parse_rules(PROFILER_RULES, given)
    if isinstance(given, list) and all(isinstance(each, dict) for each in given):
        return from_configurations(PROFILER_RULES, given, "--rules")
    raise BerthError(f"--rules: expected a list of names or an object, found {text!r}")


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
