"""Validation of hyperparameter tuning jobs."""

from importlib.util import find_spec
from typing import Any

from container.extras import extra_missing
from local.emulator.api.validation.fields import check_unique, refuse_present
from local.emulator.api.validation.ranges import check_ranges, combinations, tuned_names
from local.emulator.api.validation.tags import check_rehearsal, check_tags
from local.emulator.api.validation.training import check_definition, check_resources
from local.emulator.api.validation.warm_start import check_parents
from local.emulator.context import Context
from local.emulator.errors import invalid, limit_exceeded
from local.emulator.tuning.plan import (
    RESOURCE_KEYS,
    machines_of,
    objective_of,
    ranges_of,
    resource,
)

MAX_JOBS = {"Bayesian": 750, "Random": 10_000, "Hyperband": 750, "Grid": 750}
"""Most training jobs of a tuning job, by strategy (SageMaker's quotas)."""

MAX_PARALLEL = 100
"""Most parallel training jobs of a tuning job (SageMaker's quotas)."""

MAX_HYPERPARAMETERS = 100
"""Most hyperparameters of a training job, static and tuned (API reference)."""

MAX_RESOURCE = 20_000
"""Hyperband's largest MaxResource (API reference)."""

UNSUPPORTED = {
    "Autotune": (
        "leave it out and give HyperParameterTuningJobConfig.ParameterRanges (a range for each "
        "hyperparameter) and ResourceLimits"
    ),
}

CONFIG = "HyperParameterTuningJobConfig"

PER_DEFINITION = {
    "TuningObjective": "HyperParameterTuningJobObjective",
    "HyperParameterRanges": "ParameterRanges",
}
"""A definition's member → the config's member to use instead with a single definition."""

TUNING_RESOURCES = "HyperParameterTuningResourceConfig"
SINGLE_INSTANCE = ("InstanceType", "InstanceCount", "VolumeSizeInGB")
"""The members that `InstanceConfigs` replaces."""


def check_tuning(request: dict[str, Any], context: Context) -> None:
    """Check a CreateHyperParameterTuningJob request.

    Raises:
        ServiceError: the request is invalid, or unsupported here.
        ExecutorError: the executor cannot run the image, or does not answer.
    """
    if find_spec("optuna") is None:
        raise invalid(extra_missing("the local SageMaker searches with optuna", "tuning"))
    check_tags(request)
    refuse_present(request, UNSUPPORTED)
    config, definitions = request[CONFIG], _definitions(request)
    for where, definition in definitions:
        _check_job_definition(config, definition, where, context)
    kinds = {objective_of(definition, config)["Type"] for _, definition in definitions}
    if len(kinds) > 1:
        raise invalid(
            "TrainingJobDefinitions: TuningObjective.Type is Maximize in one and Minimize in "
            "another; expected the same in all."
        )
    spot = any(each.get("EnableManagedSpotTraining", False) for _, each in definitions)
    check_rehearsal(request, spot=spot)
    _check_limits(config, [definition for _, definition in definitions])
    if "WarmStartConfig" in request:
        check_parents(request, context)
    for _, definition in definitions:
        context.executor.check_image(definition["AlgorithmSpecification"]["TrainingImage"])


def _definitions(request: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The training job definitions, each with the prefix of its fields' names in messages."""
    single, several = request.get("TrainingJobDefinition"), request.get("TrainingJobDefinitions")
    if (single is None) == (not several):
        found_both = "both given" if several else "missing"
        raise invalid(
            f"TrainingJobDefinition and TrainingJobDefinitions are {found_both}; expected exactly "
            "one of them."
        )
    if single is not None:
        for own, shared in PER_DEFINITION.items():
            if single.get(own):
                raise invalid(
                    f"TrainingJobDefinition.{own} was given; expected {CONFIG}.{shared} with a "
                    "single definition."
                )
        return [("TrainingJobDefinition.", single)]
    for own, shared in PER_DEFINITION.items():
        if request[CONFIG].get(shared):
            raise invalid(
                f"{CONFIG}.{shared} was given with TrainingJobDefinitions; expected {own} in each "
                "of them."
            )
    found = []
    for number, definition in enumerate(several or []):
        name = definition.get("DefinitionName")
        if not name:
            raise invalid(
                f"TrainingJobDefinitions[{number}].DefinitionName is missing; expected a name."
            )
        found.append((f"TrainingJobDefinitions '{name}'.", definition))
    check_unique("TrainingJobDefinitions", [one["DefinitionName"] for _, one in found])
    return found


def _check_job_definition(
    config: dict[str, Any], definition: dict[str, Any], where: str, context: Context
) -> None:
    """Check one training job definition together with the config."""
    several = where != "TrainingJobDefinition."
    ranges = ranges_of(definition, config)
    field = f"{where}HyperParameterRanges" if several else f"{CONFIG}.ParameterRanges"
    check_ranges(ranges, config["Strategy"], field)
    _check_strategy(config, definition, where)
    _check_hyperparameters(ranges, definition, where)
    _check_objective(config, definition, where)
    machines = _check_machines(definition, context, where)
    check_definition({**definition, "ResourceConfig": machines}, context, where)


def _check_limits(config: dict[str, Any], definitions: list[dict[str, Any]]) -> None:
    limits, strategy = config["ResourceLimits"], config["Strategy"]
    most, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    field = f"{CONFIG}.ResourceLimits"
    if strategy == "Grid":
        points = sum(combinations(ranges_of(definition, config)) for definition in definitions)
        if most not in (None, points):
            raise invalid(
                f"{field}.MaxNumberOfTrainingJobs is {most}; expected {points}, the number of "
                "combinations of the grid, or no value."
            )
        most = points
    if most is None:
        raise invalid(
            f"{field}.MaxNumberOfTrainingJobs is missing; the Strategy {strategy} needs it."
        )
    if most > MAX_JOBS[strategy]:
        raise limit_exceeded(
            f"{field}.MaxNumberOfTrainingJobs is {most}; expected at most {MAX_JOBS[strategy]} "
            f"with the Strategy {strategy}."
        )
    if parallel > MAX_PARALLEL:
        raise limit_exceeded(
            f"{field}.MaxParallelTrainingJobs is {parallel}; expected at most {MAX_PARALLEL}."
        )
    if parallel > most:
        raise invalid(
            f"{field}.MaxParallelTrainingJobs is {parallel}; expected at most the {most} training "
            "jobs of MaxNumberOfTrainingJobs."
        )


def _check_strategy(config: dict[str, Any], definition: dict[str, Any], where: str) -> None:
    field = f"{CONFIG}.StrategyConfig.HyperbandStrategyConfig"
    hyperband = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig")
    if config["Strategy"] != "Hyperband":
        if hyperband is not None:
            raise invalid(
                f"{field} was given with the Strategy {config['Strategy']}; expected Hyperband."
            )
        return
    if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        raise invalid(
            "HyperParameterTuningJobConfig.TrainingJobEarlyStoppingType is "
            f"{config['TrainingJobEarlyStoppingType']}; expected Off with Hyperband, which stops "
            "training jobs itself."
        )
    least = (hyperband or {}).get("MinResource", 1)
    most = (hyperband or {}).get("MaxResource")
    if most is None:
        most = resource(definition.get("StaticHyperParameters", {}))
    if most is None:
        raise invalid(
            f"{field}.MaxResource is missing; expected it, or a whole number in one of the "
            f"{where}StaticHyperParameters {', '.join(RESOURCE_KEYS)}."
        )
    if most > MAX_RESOURCE:
        raise invalid(f"{field}.MaxResource is {most}; expected at most {MAX_RESOURCE}.")
    if least >= most:
        raise invalid(f"{field}.MinResource is {least}; expected less than MaxResource, {most}.")


def _check_hyperparameters(ranges: dict[str, Any], definition: dict[str, Any], where: str) -> None:
    static, tuned = definition.get("StaticHyperParameters", {}), tuned_names(ranges)
    if both := sorted(tuned & static.keys()):
        raise invalid(
            f"The hyperparameter '{both[0]}' is in {where}StaticHyperParameters and in the ranges; "
            "expected it in one of them."
        )
    if len(static) + len(tuned) > MAX_HYPERPARAMETERS:
        raise invalid(
            f"{where}StaticHyperParameters and ParameterRanges have {len(static) + len(tuned)} "
            f"hyperparameters; expected at most {MAX_HYPERPARAMETERS} in total."
        )


def _check_objective(config: dict[str, Any], definition: dict[str, Any], where: str) -> None:
    objective = objective_of(definition, config)
    if not objective:
        single = where == "TrainingJobDefinition."
        field = (
            f"{CONFIG}.HyperParameterTuningJobObjective" if single else f"{where}TuningObjective"
        )
        raise invalid(f"{field} is missing; expected a Type and a MetricName.")
    metrics = definition["AlgorithmSpecification"].get("MetricDefinitions", [])
    names = [metric["Name"] for metric in metrics]
    if objective["MetricName"] not in names:
        raise invalid(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric "
            f"in the metric definitions. (The objective is '{objective['MetricName']}'; "
            f"MetricDefinitions has {', '.join(names) or 'none'}.)"
        )


def _check_machines(definition: dict[str, Any], context: Context, where: str) -> dict[str, Any]:
    """Check that exactly one of the two resource configurations is given, and is valid.

    Returns:
        The resources to use, as a ResourceConfig.
    """
    given = [
        name for name in ("ResourceConfig", TUNING_RESOURCES) if definition.get(name) is not None
    ]
    if len(given) != 1:
        raise invalid(
            f"{where}ResourceConfig and {where}{TUNING_RESOURCES} are "
            f"{'both given' if given else 'missing'}; expected exactly one of them."
        )
    field = f"{where}{given[0]}"
    if given == [TUNING_RESOURCES]:
        _check_tuning_resources(definition[TUNING_RESOURCES], field)
    machines = machines_of(definition, context.executor.max_hosts)
    check_resources(machines, context, field)
    return machines


def _check_tuning_resources(own: dict[str, Any], field: str) -> None:
    configs = own.get("InstanceConfigs")
    if not configs:
        if "AllocationStrategy" in own:
            raise invalid(
                f"{field}.AllocationStrategy was given without InstanceConfigs; expected both or "
                "neither."
            )
        return
    if both := [name for name in SINGLE_INSTANCE if name in own]:
        raise invalid(
            f"{field}.{both[0]} was given with InstanceConfigs; expected it in each of them, or no "
            "InstanceConfigs."
        )
    for number, config in enumerate(configs):
        for member in ("InstanceCount", "VolumeSizeInGB"):
            if config[member] < 1:
                raise invalid(
                    f"{field}.InstanceConfigs[{number}].{member} is {config[member]}; expected at "
                    "least 1."
                )
