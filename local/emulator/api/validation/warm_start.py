"""Validation of WarmStartConfig (developer guide, warm start restrictions)."""

from typing import Any

from local.emulator.api.validation.fields import check_unique, unsupported
from local.emulator.api.validation.ranges import tuned_names
from local.emulator.context import Context
from local.emulator.errors import invalid
from local.emulator.store import Kind, Missing
from local.emulator.tuning.trials import OBJECTIVE_HYPERPARAMETER
from local.statuses import TERMINAL

STRATEGIES = ("Bayesian", "Random")
"""The strategies that learn from earlier jobs."""


def check_parents(request: dict[str, Any], context: Context) -> None:
    """Check that a tuning job's parents have ended and are compatible with it.

    Raises:
        ServiceError: a parent is not.
    """
    warm = request["WarmStartConfig"]
    strategy = request["HyperParameterTuningJobConfig"]["Strategy"]
    if strategy not in STRATEGIES:
        raise unsupported(
            f"WarmStartConfig with the Strategy {strategy}", f"expected {' or '.join(STRATEGIES)}"
        )
    if "TrainingJobDefinition" not in request:
        raise unsupported(
            "WarmStartConfig with TrainingJobDefinitions", "expected a single TrainingJobDefinition"
        )
    names = [
        parent.get("HyperParameterTuningJobName")
        for parent in warm["ParentHyperParameterTuningJobs"]
    ]
    field = "WarmStartConfig.ParentHyperParameterTuningJobs"
    if None in names:
        raise invalid(f"{field}: HyperParameterTuningJobName is missing; expected a job's name.")
    check_unique(field, names)
    for name in names:
        try:
            parent = context.store.get(Kind.TUNING_JOB, name).body
        except Missing:
            raise invalid(f"{field}: no such hyperparameter tuning job: '{name}'.") from None
        if parent["HyperParameterTuningJobStatus"] not in TERMINAL:
            raise invalid(
                f"{field}: '{name}' is {parent['HyperParameterTuningJobStatus']}; expected a job "
                "that is Completed, Failed or Stopped."
            )
        if "TrainingJobDefinition" not in parent:
            raise unsupported(
                f"{field}: '{name}', a parent with TrainingJobDefinitions,",
                "expected one with a single TrainingJobDefinition",
            )
        _check_compatible(request, parent, warm["WarmStartType"], f"{field}: '{name}'")


def _check_compatible(
    request: dict[str, Any], parent: dict[str, Any], kind: str, field: str
) -> None:
    """Check what AWS requires a tuning job and its parent to have in common."""
    member = "HyperParameterTuningJobConfig"
    before, after = parent[member], request[member]
    old, new = parent["TrainingJobDefinition"], request["TrainingJobDefinition"]
    member = "HyperParameterTuningJobObjective"
    if before[member] != after[member]:
        raise invalid(
            f"{field} has the objective {before[member]['Type']} {before[member]['MetricName']}; "
            "expected the same as this job's."
        )
    theirs, ours = (
        (
            tuned_names(config["ParameterRanges"])
            | definition.get("StaticHyperParameters", {}).keys()
        )
        - {OBJECTIVE_HYPERPARAMETER}
        for config, definition in ((before, old), (after, new))
    )
    if theirs != ours:
        raise invalid(
            f"{field} has {len(theirs)} static and tuned hyperparameters and this job {len(ours)}; "
            "expected the same ones: a static one may become tuned and a tuned one static, but "
            f"none may be added or removed (only the parent has: {_listed(theirs - ours)}; only "
            f"this job has: {_listed(ours - theirs)})."
        )
    if kind != "IdenticalDataAndAlgorithm":
        return
    image, now = (job["AlgorithmSpecification"]["TrainingImage"] for job in (old, new))
    if image != now:
        raise invalid(
            f"{field} ran the image {image}; WarmStartType IdenticalDataAndAlgorithm expects the "
            f"same, found {now}: use TransferLearning."
        )
    if old.get("InputDataConfig") != new.get("InputDataConfig"):
        raise invalid(
            f"{field} had another InputDataConfig; WarmStartType IdenticalDataAndAlgorithm "
            "expects the same: use TransferLearning."
        )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
