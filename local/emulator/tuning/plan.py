"""What a CreateHyperParameterTuningJob request asks for, in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from local.emulator.tuning.ranges import Space, parse
from local.emulator.tuning.search import Direction
from local.emulator.tuning.stopping import Hyperband

RESOURCE_KEYS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
"""Static hyperparameters that stand in for MaxResource (API reference, HyperbandStrategyConfig)."""


@dataclass(frozen=True)
class Plan:
    """A tuning job.

    Attributes:
        name: the tuning job's.
        strategy: how points are chosen.
        metric: the objective's name.
        regex: what finds it in the log.
        direction: which way it is better.
        space: the ranges.
        total: how many trials there may be.
        parallel: how many run at a time.
        seconds: how long the tuning job may run; None for no limit.
        early: whether the median rule stops trials.
        hyperband: the brackets of strategy Hyperband.
        target: end at an objective this good.
        patience: end after so many trials without an improvement.
        converge: end when more trials promise nothing.
        static: the hyperparameters all trials share.
        definition: the TrainingJobDefinition.
        tags: the tuning job's, which its trials get too.
        parents: the tuning jobs of a warm start.
        identical: whether the parents had the same data and algorithm.
    """

    name: str
    strategy: Literal["Bayesian", "Random", "Hyperband", "Grid"]
    metric: str
    regex: str
    direction: Direction
    space: Space
    total: int
    parallel: int
    seconds: int | None
    early: bool
    hyperband: Hyperband | None
    target: float | None
    patience: int | None
    converge: bool
    static: dict[str, str]
    definition: dict[str, Any]
    tags: list[dict[str, str]]
    parents: tuple[str, ...]
    identical: bool


def read(request: Mapping[str, Any]) -> Plan:
    """The plan of a request, which was checked."""
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    objective = config["HyperParameterTuningJobObjective"]
    metrics = definition["AlgorithmSpecification"].get("MetricDefinitions", [])
    space, static = parse(config["ParameterRanges"]), definition.get("StaticHyperParameters", {})
    limits, criteria = config["ResourceLimits"], config.get("TuningJobCompletionCriteria", {})
    patience, convergence = (
        criteria.get(name, {}) for name in ("BestObjectiveNotImproving", "ConvergenceDetected")
    )
    warm = request.get("WarmStartConfig", {})
    return Plan(
        name=request["HyperParameterTuningJobName"],
        strategy=config["Strategy"],
        metric=objective["MetricName"],
        regex=next(
            (each["Regex"] for each in metrics if each["Name"] == objective["MetricName"]), ""
        ),
        direction=objective["Type"],
        space=space,
        total=_total(config, space),
        parallel=limits["MaxParallelTrainingJobs"],
        seconds=limits.get("MaxRuntimeInSeconds"),
        early=config.get("TrainingJobEarlyStoppingType", "Off") == "Auto",
        hyperband=_hyperband(config, static) if config["Strategy"] == "Hyperband" else None,
        target=criteria.get("TargetObjectiveMetricValue"),
        patience=patience.get("MaxNumberOfTrainingJobsNotImproving"),
        converge=convergence.get("CompleteOnConvergence") == "Enabled",
        static=dict(static),
        definition=dict(definition),
        tags=list(request.get("Tags", [])),
        parents=tuple(
            each["HyperParameterTuningJobName"]
            for each in warm.get("ParentHyperParameterTuningJobs", [])
        ),
        identical=warm.get("WarmStartType") == "IdenticalDataAndAlgorithm",
    )


def _total(config: Mapping[str, Any], space: Space) -> int:
    """How many trials; a grid has as many as combinations (developer guide, Grid search)."""
    if config["Strategy"] == "Grid" and space.combinations is not None:
        return space.combinations
    most: int = config["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    return most


def _hyperband(config: Mapping[str, Any], static: Mapping[str, str]) -> Hyperband:
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    high = given.get("MaxResource")
    if high is None:
        high = next(int(static[key]) for key in RESOURCE_KEYS if key in static)
    return Hyperband(given.get("MinResource", 1), high)
