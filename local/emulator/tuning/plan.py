"""Parsing of a CreateHyperParameterTuningJob request."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from local.emulator.tuning.ranges import Space, parse
from local.emulator.tuning.search import Direction
from local.emulator.tuning.stopping import Hyperband

RESOURCE_KEYS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
"""Static hyperparameters that set MaxResource (API reference, HyperbandStrategyConfig)."""


@dataclass(frozen=True)
class Definition:
    """A training job definition of a tuning job.

    Attributes:
        name: `DefinitionName`; None for a single definition without one.
        metric: the objective metric.
        regex: the regular expression of the metric.
        space: the ranges.
        static: the static hyperparameters.
        hyperband: the brackets of the strategy Hyperband; None for others.
        content: the definition in the request.
    """

    name: str | None
    metric: str
    regex: str
    space: Space
    static: dict[str, str]
    hyperband: Hyperband | None
    content: dict[str, Any]


@dataclass(frozen=True)
class TuningPlan:
    """A parsed tuning job.

    Attributes:
        name: its name.
        strategy: the search strategy.
        direction: whether the objective is minimized or maximized.
        definitions: the training job definitions, which its trials use in turn.
        total: most trials.
        parallel: most parallel trials.
        seconds: longest runtime; None for no limit.
        early: whether the median rule stops trials early.
        target: complete at this objective value.
        patience: complete after this many trials without improvement.
        converge: complete when the search has converged.
        tags: its tags, which its trials also get.
        parents: the parent tuning jobs of a warm start.
        identical: whether the parents had the same data and algorithm.
    """

    name: str
    strategy: Literal["Bayesian", "Random", "Hyperband", "Grid"]
    direction: Direction
    definitions: tuple[Definition, ...]
    total: int
    parallel: int
    seconds: int | None
    early: bool
    target: float | None
    patience: int | None
    converge: bool
    tags: list[dict[str, str]]
    parents: tuple[str, ...]
    identical: bool

    def place(self, number: int) -> tuple[int, int]:
        """The index of a point's definition, and the point's number within it.

        Points are assigned to definitions in turn; a grid skips definitions without combinations
        left.
        """
        if self.strategy != "Grid":
            return number % len(self.definitions), number // len(self.definitions)
        sizes = [each.space.combinations or 0 for each in self.definitions]
        turns = ((own, index) for own in range(max(sizes)) for index in range(len(sizes)))
        open_turns = ((index, own) for own, index in turns if own < sizes[index])
        return next(itertools.islice(open_turns, number, None))


def read(request: Mapping[str, Any]) -> TuningPlan:
    """Parse a validated request."""
    config = request["HyperParameterTuningJobConfig"]
    definitions = tuple(_definition(each, config) for each in definitions_of(request))
    limits, criteria = config["ResourceLimits"], config.get("TuningJobCompletionCriteria", {})
    patience, convergence = (
        criteria.get(name, {}) for name in ("BestObjectiveNotImproving", "ConvergenceDetected")
    )
    warm = request.get("WarmStartConfig", {})
    return TuningPlan(
        name=request["HyperParameterTuningJobName"],
        strategy=config["Strategy"],
        direction=objective_of(definitions_of(request)[0], config)["Type"],
        definitions=definitions,
        total=_total(config, definitions),
        parallel=limits["MaxParallelTrainingJobs"],
        seconds=limits.get("MaxRuntimeInSeconds"),
        early=config.get("TrainingJobEarlyStoppingType", "Off") == "Auto",
        target=criteria.get("TargetObjectiveMetricValue"),
        patience=patience.get("MaxNumberOfTrainingJobsNotImproving"),
        converge=convergence.get("CompleteOnConvergence") == "Enabled",
        tags=list(request.get("Tags", [])),
        parents=tuple(
            each["HyperParameterTuningJobName"]
            for each in warm.get("ParentHyperParameterTuningJobs", [])
        ),
        identical=warm.get("WarmStartType") == "IdenticalDataAndAlgorithm",
    )


def definitions_of(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The training job definitions of a request or of a Describe response."""
    several = request.get("TrainingJobDefinitions")
    return list(several) if several else [request["TrainingJobDefinition"]]


def objective_of(definition: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The objective of a definition: its own, or the whole tuning job's."""
    found: dict[str, Any] = definition.get("TuningObjective") or config.get(
        "HyperParameterTuningJobObjective", {}
    )
    return found


def ranges_of(definition: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The ranges of a definition: its own, or the whole tuning job's."""
    found: dict[str, Any] = definition.get("HyperParameterRanges") or config.get(
        "ParameterRanges", {}
    )
    return found


def machines_of(definition: Mapping[str, Any], most: int | None = None) -> dict[str, Any]:
    """The instances for a definition's training jobs, as a `ResourceConfig`.

    Args:
        definition: a definition with a `ResourceConfig` or a `HyperParameterTuningResourceConfig`.
            The first of the latter's InstanceConfigs with enough capacity is chosen, as with the
            AllocationStrategy `Prioritized`.
        most: most hosts; None for no limit.
    """
    own = definition.get("HyperParameterTuningResourceConfig")
    if own is None:
        return dict(definition.get("ResourceConfig", {}))
    choices = own.get("InstanceConfigs") or [own]
    able = [each for each in choices if most is None or each.get("InstanceCount", 0) <= most]
    chosen = (able or choices)[0]
    members = ("InstanceType", "InstanceCount", "VolumeSizeInGB")
    found = {name: chosen[name] for name in members if name in chosen}
    if "VolumeKmsKeyId" in own:
        found["VolumeKmsKeyId"] = own["VolumeKmsKeyId"]
    return found


def resource(static: Mapping[str, str]) -> int | None:
    """Hyperband's MaxResource from the static hyperparameters; None if there is none.

    The SDKs JSON-encode values, so numbers may be in quotes.
    """
    for key in RESOURCE_KEYS:
        if key in static:
            try:
                return int(static[key].strip().strip('"'))
            except ValueError:
                return None
    return None


def _definition(given: Mapping[str, Any], config: Mapping[str, Any]) -> Definition:
    static, metric = given.get("StaticHyperParameters", {}), objective_of(given, config)
    metrics = given["AlgorithmSpecification"].get("MetricDefinitions", [])
    return Definition(
        name=given.get("DefinitionName"),
        metric=metric["MetricName"],
        regex=next((each["Regex"] for each in metrics if each["Name"] == metric["MetricName"]), ""),
        space=parse(ranges_of(given, config)),
        static=dict(static),
        hyperband=_hyperband(config, static) if config["Strategy"] == "Hyperband" else None,
        content=dict(given),
    )


def _total(config: Mapping[str, Any], definitions: Sequence[Definition]) -> int:
    """The number of trials; a grid has one per combination (developer guide, Grid search)."""
    if config["Strategy"] == "Grid":
        return sum(each.space.combinations or 0 for each in definitions)
    most: int = config["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    return most


def _hyperband(config: Mapping[str, Any], static: Mapping[str, str]) -> Hyperband:
    given = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
    return Hyperband(given.get("MinResource", 1), given.get("MaxResource") or resource(static) or 1)
