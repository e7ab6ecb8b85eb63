"""Hyperparameter tuning jobs."""

from typing import Any

from local.emulator.api.rules.fields import check_unique, refuse_present, unsupported
from local.emulator.api.rules.ranges import check_ranges, combinations, tuned_names
from local.emulator.api.rules.tags import check_rehearsal, check_tags
from local.emulator.api.rules.training import check_definition, check_resources
from local.emulator.context import Context
from local.emulator.errors import invalid, limit_exceeded
from local.emulator.store import Kind, Missing

MOST_JOBS = {"Bayesian": 750, "Random": 10_000, "Hyperband": 750, "Grid": 750}
"""Training jobs of a tuning job by strategy, by SageMaker's quotas."""

MOST_PARALLEL = 100
"""Of them at a time, by SageMaker's quotas."""

WARM = ("Bayesian", "Random")
"""Strategies that learn from earlier jobs here."""

MOST_HYPERPARAMETERS = 100
"""Of a training job, static and tuned ones together, by the API's model."""

OVER = ("Completed", "Failed", "Stopped")

EPOCHS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
"""Static hyperparameters Hyperband takes MaxResource from, by the API's documentation."""

MOST_RESOURCE = 20_000
"""Hyperband's greatest MaxResource, by the API's documentation."""

OBJECTIVE = "_tuning_objective_metric"
"""A hyperparameter SageMaker adds to every training job of a tuning job."""


NOT_HERE = {
    "Autotune": "give ParameterRanges and ResourceLimits",
    "TrainingJobDefinitions": "expected a single TrainingJobDefinition",
    "TrainingJobDefinition.HyperParameterRanges": (
        "expected HyperParameterTuningJobConfig.ParameterRanges"
    ),
    "TrainingJobDefinition.TuningObjective": (
        "expected HyperParameterTuningJobConfig.HyperParameterTuningJobObjective"
    ),
    "TrainingJobDefinition.HyperParameterTuningResourceConfig": (
        "expected TrainingJobDefinition.ResourceConfig"
    ),
}

WHERE = "TrainingJobDefinition."


def check_tuning(request: dict[str, Any], context: Context) -> None:
    """A CreateHyperParameterTuningJob request.

    Raises:
        ServiceError: it is refused.
        ExecutorError: the executor cannot run the image, or does not answer.
    """
    check_tags(request)
    refuse_present(request, NOT_HERE)
    config = request["HyperParameterTuningJobConfig"]
    definition = request.get("TrainingJobDefinition")
    if definition is None:
        raise invalid("TrainingJobDefinition is missing; expected one.")
    check_ranges(config)
    _check_limits(config)
    _check_strategy(config, definition)
    _check_hyperparameters(config, definition)
    _check_objective(config, definition)
    check_rehearsal(request, spot=definition.get("EnableManagedSpotTraining", False))
    check_resources(definition.get("ResourceConfig", {}), context, f"{WHERE}ResourceConfig")
    check_definition(definition, context, WHERE)
    if "WarmStartConfig" in request:
        _check_parents(request, context)
    context.executor.check_image(definition["AlgorithmSpecification"]["TrainingImage"])


def _check_limits(config: dict[str, Any]) -> None:
    limits, strategy = config["ResourceLimits"], config["Strategy"]
    most, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    field = "HyperParameterTuningJobConfig.ResourceLimits"
    if strategy == "Grid":
        points = combinations(config)
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


def _check_strategy(config: dict[str, Any], definition: dict[str, Any]) -> None:
    field = "HyperParameterTuningJobConfig.StrategyConfig.HyperbandStrategyConfig"
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
        most = _epochs(definition.get("StaticHyperParameters", {}))
    if most is None:
        raise invalid(
            f"{field}.MaxResource is missing; expected it, or a whole number in one of the "
            f"StaticHyperParameters {', '.join(EPOCHS)}."
        )
    if most > MOST_RESOURCE:
        raise invalid(f"{field}.MaxResource is {most}; expected at most {MOST_RESOURCE}.")
    if least >= most:
        raise invalid(f"{field}.MinResource is {least}; expected less than MaxResource, {most}.")


def _epochs(static: dict[str, str]) -> int | None:
    for name in EPOCHS:
        if name in static:
            try:
                return int(static[name])
            except ValueError:
                return None
    return None


def _check_hyperparameters(config: dict[str, Any], definition: dict[str, Any]) -> None:
    static, tuned = definition.get("StaticHyperParameters", {}), tuned_names(config)
    if both := sorted(tuned & static.keys()):
        raise invalid(
            f"The hyperparameter '{both[0]}' is in StaticHyperParameters and in ParameterRanges; "
            "expected it in one of them."
        )
    if len(static) + len(tuned) > MOST_HYPERPARAMETERS:
        raise invalid(
            f"StaticHyperParameters and ParameterRanges hold {len(static) + len(tuned)} "
            f"hyperparameters; expected at most {MOST_HYPERPARAMETERS} together."
        )


def _check_objective(config: dict[str, Any], definition: dict[str, Any]) -> None:
    objective = config.get("HyperParameterTuningJobObjective")
    if objective is None:
        raise invalid(
            "HyperParameterTuningJobConfig.HyperParameterTuningJobObjective is missing; expected "
            "a Type and a MetricName."
        )
    metrics = definition["AlgorithmSpecification"].get("MetricDefinitions", [])
    names = [metric["Name"] for metric in metrics]
    if objective["MetricName"] not in names:
        raise invalid(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric "
            f"in the metric definitions. (The objective is '{objective['MetricName']}'; "
            f"MetricDefinitions has {', '.join(names) or 'none'}.)"
        )


def _check_parents(request: dict[str, Any], context: Context) -> None:
    warm = request["WarmStartConfig"]
    strategy = request["HyperParameterTuningJobConfig"]["Strategy"]
    if strategy not in WARM:
        raise unsupported(
            f"WarmStartConfig with the Strategy {strategy}", f"expected {' or '.join(WARM)}"
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
            raise invalid(f"{field}: there is no hyperparameter tuning job '{name}'.") from None
        if parent["HyperParameterTuningJobStatus"] not in OVER:
            raise invalid(
                f"{field}: '{name}' is {parent['HyperParameterTuningJobStatus']}; expected a job "
                f"that is {', '.join(OVER[:-1])} or {OVER[-1]}."
            )
        _check_alike(request, parent, warm["WarmStartType"], f"{field}: '{name}'")


def _check_alike(request: dict[str, Any], parent: dict[str, Any], kind: str, field: str) -> None:
    """What AWS wants a tuning job and the one it starts from to have in common."""
    member = "HyperParameterTuningJobConfig"
    before, after = parent[member], request[member]
    old, new = parent["TrainingJobDefinition"], request["TrainingJobDefinition"]
    member = "HyperParameterTuningJobObjective"
    if before[member] != after[member]:
        raise invalid(
            f"{field} has the objective {before[member]['Type']} {before[member]['MetricName']}; "
            "expected the same as this job's."
        )
    counts = [
        (tuned_names(config) | definition.get("StaticHyperParameters", {}).keys()) - {OBJECTIVE}
        for config, definition in ((before, old), (after, new))
    ]
    if len(counts[0]) != len(counts[1]):
        raise invalid(
            f"{field} has {len(counts[0])} static and tuned hyperparameters and this job "
            f"{len(counts[1])}; expected as many (different: "
            f"{', '.join(sorted(counts[0] ^ counts[1]))})."
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
