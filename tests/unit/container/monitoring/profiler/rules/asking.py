"""Asks one rule of a recording that was written to disk in SageMaker's layout."""

from typing import Any

from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.rules import evaluate
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import parse_rules
from tests.unit.container.monitoring.profiler.folders import write_aws, write_berth


def outcome(folder: Any, rule: Any, *hosts: Any, **parameters: Any) -> Any:
    """The rule's outcome on what SageMaker would have recorded of the hosts."""
    return _outcome(write_aws(folder, *hosts), rule, parameters)


def berth_outcome(folder: Any, rule: Any, *hosts: Any, job: Any = None, **parameters: Any) -> Any:
    """The rule's outcome on what berth would have recorded of the hosts."""
    return _outcome(write_berth(folder, *hosts, job=job), rule, parameters)


def _outcome(folder: Any, rule: Any, parameters: Any) -> Any:
    overrides = {f"{rule}_{name}": value for name, value in parameters.items()}
    (found,) = evaluate(Recording.read(folder), parse_rules(PROFILER_RULES, [rule], overrides))
    assert found.error is None, found.error
    return found
