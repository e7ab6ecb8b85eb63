"""Hyperparameter tuning jobs."""

from typing import Any

from local.emulator.api.validation.fields import check_unique, refuse_present
from local.emulator.api.validation.machines import check_machines
from local.emulator.api.validation.ranges import check_ranges, combinations, tuned_names
from local.emulator.api.validation.tags import check_rehearsal, check_tags
from local.emulator.api.validation.training import check_definition
from local.emulator.api.validation.warm_start import check_parents
from local.emulator.context import Context
from local.emulator.errors import invalid, limit_exceeded
from local.emulator.tuning.plan import RESOURCE_KEYS, objective_of, ranges_of, resource

MOST_JOBS = {"Bayesian": 750, "Random": 10_000, "Hyperband": 750, "Grid": 750}
"""Training jobs of a tuning job by strategy, by SageMaker's quotas."""

MOST_PARALLEL = 100
"""Of them at a time, by SageMaker's quotas."""

MOST_HYPERPARAMETERS = 100
"""Of a training job, static and tuned ones together, by the API's model."""

MOST_RESOURCE = 20_000
"""Hyperband's greatest MaxResource, by the API's documentation."""

NOT_HERE = {
    "Autotune": (
        "leave it out and give HyperParameterTuningJobConfig.ParameterRanges (a range for each "
        "hyperparameter) and ResourceLimits"
    ),
}

CONFIG = "HyperParameterTuningJobConfig"

TWICE = {
    "TuningObjective": "HyperParameterTuningJobObjective",
    "HyperParameterRanges": "ParameterRanges",
}
"""What several definitions have each, and a single one has in the tuning job's config."""


def check_tuning(request: dict[str, Any], context: Context) -> None:
    """A CreateHyperParameterTuningJob request.

    Raises:
        ServiceError: it is refused.
        ExecutorError: the executor cannot run the image, or does not answer.
    """
    check_tags(request)
    refuse_present(request, NOT_HERE)
    config, definitions = request[CONFIG], _definitions(request)
    for where, definition in definitions:
        _check_one(config, definition, where, context)
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
    """The training job definitions, each with what precedes its fields' names in messages."""
    single, several = request.get("TrainingJobDefinition"), request.get("TrainingJobDefinitions")
    if (single is None) == (not several):
        found_both = "both given" if several else "missing"
        raise invalid(
            f"TrainingJobDefinition and TrainingJobDefinitions are {found_both}; expected exactly "
            "one of them."
        )
    if single is not None:
        for own, shared in TWICE.items():
            if single.get(own):
                raise invalid(
                    f"TrainingJobDefinition.{own} was given; expected {CONFIG}.{shared} with a "
                    "single definition."
                )
        return [("TrainingJobDefinition.", single)]
    for own, shared in TWICE.items():
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


def _check_one(
    config: dict[str, Any], definition: dict[str, Any], where: str, context: Context
) -> None:
    """One training job definition, with what the config says of it."""
    several = where != "TrainingJobDefinition."
    ranges = ranges_of(definition, config)
    field = f"{where}HyperParameterRanges" if several else f"{CONFIG}.ParameterRanges"
    check_ranges(ranges, config["Strategy"], field)
    _check_strategy(config, definition, where)
    _check_hyperparameters(ranges, definition, where)
    _check_objective(config, definition, where)
    machines = check_machines(definition, context, where)
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
                "combinations of the grid, or nothing."
            )
        most = points
    if most is None:
        raise invalid(
            f"{field}.MaxNumberOfTrainingJobs is missing; the Strategy {strategy} needs it."
        )
    if most > MOST_JOBS[strategy]:
        raise limit_exceeded(
            f"{field}.MaxNumberOfTrainingJobs is {most}; expected at most {MOST_JOBS[strategy]} "
            f"with the Strategy {strategy}."
        )
    if parallel > MOST_PARALLEL:
        raise limit_exceeded(
            f"{field}.MaxParallelTrainingJobs is {parallel}; expected at most {MOST_PARALLEL}."
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
            f"{config['TrainingJobEarlyStoppingType']}; Hyperband stops early by itself, "
            "expected Off."
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
    if most > MOST_RESOURCE:
        raise invalid(f"{field}.MaxResource is {most}; expected at most {MOST_RESOURCE}.")
    if least >= most:
        raise invalid(f"{field}.MinResource is {least}; expected less than MaxResource, {most}.")


def _check_hyperparameters(ranges: dict[str, Any], definition: dict[str, Any], where: str) -> None:
    static, tuned = definition.get("StaticHyperParameters", {}), tuned_names(ranges)
    if both := sorted(tuned & static.keys()):
        raise invalid(
            f"The hyperparameter '{both[0]}' is in {where}StaticHyperParameters and in the ranges; "
            "expected it in one of them."
        )
    if len(static) + len(tuned) > MOST_HYPERPARAMETERS:
        raise invalid(
            f"{where}StaticHyperParameters and ParameterRanges hold {len(static) + len(tuned)} "
            f"hyperparameters; expected at most {MOST_HYPERPARAMETERS} together."
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
