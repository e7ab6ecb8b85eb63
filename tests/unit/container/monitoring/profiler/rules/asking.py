"""Runs one rule on a recording written to disk in SageMaker's layout or berth's."""

from typing import Any

from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.rules import evaluate
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import parse_rules
from tests.unit.container.monitoring.profiler.folders import write_aws, write_berth


def outcome(folder: Any, rule: Any, *hosts: Any, **parameters: Any) -> Any:
    """Return the rule's outcome on the hosts as recorded by SageMaker."""
    return _outcome(write_aws(folder, *hosts), rule, parameters)


def berth_outcome(folder: Any, rule: Any, *hosts: Any, job: Any = None, **parameters: Any) -> Any:
    """Return the rule's outcome on the hosts as recorded by berth."""
    return _outcome(write_berth(folder, *hosts, job=job), rule, parameters)


def _outcome(folder: Any, rule: Any, parameters: Any) -> Any:
    overrides = {f"{rule}_{name}": value for name, value in parameters.items()}
    (found,) = evaluate(Recording.read(folder), parse_rules(PROFILER_RULES, [rule], overrides))
    assert found.error is None, found.error
    return found
