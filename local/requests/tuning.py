"""A tuning job's request: what is searched, how, and for how long.

search = Search(ranges=(Range.parse("learning_rate=0.001:0.1:log"),), max_jobs=10)
search.request("my-search", job)        # what CreateHyperParameterTuningJob takes
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from container.hyperparameters import Hyperparameters
from local.errors import UserError
from local.requests.hosting import tagged
from local.requests.training import (
    TrainingJobRequest,
    canonical,
    check_hyperparameters,
    is_berth_image,
)

RangeKind = Literal["continuous", "integer", "categorical"]
Strategy = Literal["Bayesian", "Random", "Hyperband", "Grid"]
SCALINGS = {
    "auto": "Auto",
    "lin": "Linear",
    "linear": "Linear",
    "log": "Logarithmic",
    "logarithmic": "Logarithmic",
    "reverselog": "ReverseLogarithmic",
    "reverselogarithmic": "ReverseLogarithmic",
}
EPOCHS = ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")
"""Fixed hyperparameters Hyperband takes its most epochs from (API reference)."""
EXPECTED = "expected name=low:high[:log|linear|reverselog][:int] or name=value,value,…"


@dataclass(frozen=True)
class Range:
    """What one hyperparameter may be.

    Attributes:
        name: the hyperparameter's.
        kind: continuous, integer or categorical.
        low, high: the bounds, both included, as text; "" for a categorical one.
        scaling: SageMaker's name of the scaling type.
        values: a categorical one's.
    """

    name: str
    kind: RangeKind
    low: str = ""
    high: str = ""
    scaling: str = "Auto"
    values: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Read `learning_rate=0.001:0.1:log`, `epochs=2:4:int` or `batch_size=32,64,128`.

        A range of one of our image's whole numbers is an integer one without `:int`.

        Raises:
            UserError: the text is none of these.
        """
        name, equals, rest = (part.strip() for part in text.partition("="))
        if not equals or not name or not rest:
            raise UserError(f"--range: found {text!r}, {EXPECTED}")
        if ":" not in rest:
            values = tuple(value.strip() for value in rest.split(","))
            if "" in values:
                raise UserError(f"--range: found {text!r}, {EXPECTED}")
            if len(set(values)) < len(values):
                raise UserError(f"--range: {text!r} names a value twice")
            return cls(name, "categorical", values=values)
        low, high, *words = (part.strip() for part in rest.split(":"))
        integer = _is_whole(name)
        scaling = "Auto"
        for word in (word.lower() for word in words):
            if word == "int":
                integer = True
            elif word in SCALINGS:
                scaling = SCALINGS[word]
            else:
                raise UserError(f"--range: found {word!r} in {text!r}, {EXPECTED}")
        return cls._between(text, name, low, high, "integer" if integer else "continuous", scaling)

    @classmethod
    def _between(
        cls, text: str, name: str, low: str, high: str, kind: RangeKind, scaling: str
    ) -> "Range":
        number = int if kind == "integer" else float
        try:
            first, last = number(low), number(high)
        except ValueError:
            what = "whole numbers" if kind == "integer" else "numbers"
            raise UserError(f"--range: found {text!r}, expected two {what}") from None
        if not (math.isfinite(first) and math.isfinite(last)):
            raise UserError(f"--range: found {text!r}, expected finite numbers")
        if not first < last:
            raise UserError(f"--range: found {text!r}, expected the lower bound first")
        if scaling == "Logarithmic" and first <= 0:
            raise UserError(f"--range: found {text!r}, a log range must be above 0")
        if scaling == "ReverseLogarithmic" and not (
            kind == "continuous" and first >= 0 and last < 1
        ):
            raise UserError(
                f"--range: found {text!r}, a reverselog range is continuous, from 0 up to below 1"
            )
        return cls(name, kind, low, high, scaling)

    @property
    def extremes(self) -> tuple[str, ...]:
        """The values by which the range stands or falls: its ends, or every one."""
        return self.values or (self.low, self.high)

    def describe(self) -> str:
        """The values it allows, as text."""
        if self.values:
            return ", ".join(self.values)
        scaling = "" if self.scaling == "Auto" else f", {self.scaling.lower()}"
        return f"{self.low} to {self.high}{scaling}"


@dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        ranges: what is searched; at least one.
        objective: name of the metric, which must be among the job's.
        goal: Maximize or Minimize.
        strategy: SageMaker's name of it.
        max_jobs, max_parallel: trials in all, and at a time.
        seed: of the search; None leaves it to SageMaker.
        early_stopping: end trials that cannot win.
        target: end the search at this objective value.
        max_stagnation: end it after so many trials without a better one.
        min_resource, max_resource: Hyperband's fewest and most epochs of a trial.
        max_runtime: seconds for the whole search.
        parents: finished tuning jobs to learn from.
        identical: the parents had the same data and image (IdenticalDataAndAlgorithm).
    """

    ranges: tuple[Range, ...]
    objective: str = "validation:accuracy"
    goal: Literal["Maximize", "Minimize"] = "Maximize"
    strategy: Strategy = "Bayesian"
    max_jobs: int = 10
    max_parallel: int = 2
    seed: int | None = None
    early_stopping: bool = False
    target: float | None = None
    max_stagnation: int | None = None
    min_resource: int | None = None
    max_resource: int | None = None
    max_runtime: int | None = None
    parents: tuple[str, ...] = ()
    identical: bool = False

    def check(self, job: TrainingJobRequest) -> None:
        """Refuse what does not fit together, every range's ends included.

        Raises:
            UserError: the line names the option, what was found and what was expected.
        """
        job.check()
        names = [canonical(each.name) for each in self.ranges]
        if not names:
            raise UserError("--range: found none, expected one or more (or --preset)")
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"--range: {name} is given twice")
            if name in map(canonical, job.hyperparameters):
                raise UserError(f"{name}: found both a range and a fixed value, expected one")
        if self.objective not in job.metrics:
            known = ", ".join(job.metrics) or "none"
            raise UserError(f"--objective: found {self.objective!r}, the metrics are: {known}")
        if is_berth_image(job.image_uri):
            for each in self.ranges:
                for value in each.extremes:
                    trial = dict(job.hyperparameters) | {each.name: value}
                    check_hyperparameters(trial, job.image_uri)
        if self.strategy == "Grid" and any(each.kind != "categorical" for each in self.ranges):
            raise UserError("--strategy Grid: found a range of numbers, expected lists of values")
        if self.strategy != "Hyperband" and (self.min_resource or self.max_resource):
            raise UserError("--min-resource and --max-resource: only Hyperband has them")
        if self.strategy == "Hyperband" and self.early_stopping:
            raise UserError("--early-stopping: Hyperband stops trials itself")
        if self.strategy == "Hyperband":
            self._check_resources(job)
        if self.max_parallel > self.jobs:
            what = "the grid's combinations" if self.strategy == "Grid" else "--jobs"
            raise UserError(
                f"--parallel: found {self.max_parallel}, expected at most {what} ({self.jobs})"
            )

    @property
    def jobs(self) -> int:
        """How many trials there will be at most: a grid's are all its combinations."""
        if self.strategy == "Grid":
            return math.prod(len(each.values) for each in self.ranges)
        return self.max_jobs

    def _check_resources(self, job: TrainingJobRequest) -> None:
        # SDKs write numbers as JSON, a string's quotes included.
        fixed = (
            job.hyperparameters[name].strip().strip('"')
            for name in EPOCHS
            if name in job.hyperparameters
        )
        most = self.max_resource or next((int(each) for each in fixed if each.isdecimal()), None)
        if most is None:
            raise UserError("--max-resource: found none, expected it or a fixed -p epochs=…")
        if (self.min_resource or 1) >= most:
            raise UserError(
                f"--min-resource: found {self.min_resource or 1}, expected less than the most "
                f"epochs of a trial ({most})"
            )

    def request(self, name: str, job: TrainingJobRequest) -> dict[str, Any]:
        """The CreateHyperParameterTuningJob request."""
        definition = {"StaticHyperParameters": dict(job.hyperparameters)} | job.definition()
        if job.environment:
            definition["Environment"] = dict(job.environment)
        request: dict[str, Any] = {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": self._config(),
            "TrainingJobDefinition": definition,
        }
        if self.parents:
            request["WarmStartConfig"] = {
                "ParentHyperParameterTuningJobs": [
                    {"HyperParameterTuningJobName": parent} for parent in self.parents
                ],
                "WarmStartType": "IdenticalDataAndAlgorithm"
                if self.identical
                else "TransferLearning",
            }
        return request | tagged(job.tags)

    def _config(self) -> dict[str, Any]:
        limits: dict[str, int] = {"MaxParallelTrainingJobs": self.max_parallel}
        if self.strategy != "Grid":  # which tries every combination, however many
            limits["MaxNumberOfTrainingJobs"] = self.max_jobs
        if self.max_runtime is not None:
            limits["MaxRuntimeInSeconds"] = self.max_runtime
        config: dict[str, Any] = {
            "Strategy": self.strategy,
            "HyperParameterTuningJobObjective": {"Type": self.goal, "MetricName": self.objective},
            "ResourceLimits": limits,
            "ParameterRanges": _parameter_ranges(self.ranges),
            "TrainingJobEarlyStoppingType": "Auto" if self.early_stopping else "Off",
        }
        resource = {"MinResource": self.min_resource, "MaxResource": self.max_resource}
        resource = {key: value for key, value in resource.items() if value is not None}
        if resource:
            config["StrategyConfig"] = {"HyperbandStrategyConfig": resource}
        criteria: dict[str, Any] = {}
        if self.target is not None:
            criteria["TargetObjectiveMetricValue"] = self.target
        if self.max_stagnation is not None:
            criteria["BestObjectiveNotImproving"] = {
                "MaxNumberOfTrainingJobsNotImproving": self.max_stagnation
            }
        if criteria:
            config["TuningJobCompletionCriteria"] = criteria
        if self.seed is not None:
            config["RandomSeed"] = self.seed
        return config


def _parameter_ranges(ranges: tuple[Range, ...]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {
        "ContinuousParameterRanges": [],
        "IntegerParameterRanges": [],
        "CategoricalParameterRanges": [],
    }
    for each in ranges:
        if each.kind == "categorical":
            found["CategoricalParameterRanges"].append(
                {"Name": each.name, "Values": list(each.values)}
            )
            continue
        found[f"{each.kind.capitalize()}ParameterRanges"].append(
            {
                "Name": each.name,
                "MinValue": each.low,
                "MaxValue": each.high,
                "ScalingType": each.scaling,
            }
        )
    return {kind: listed for kind, listed in found.items() if listed}


def best_hyperparameters(tuning_job: Mapping[str, Any]) -> dict[str, str]:
    """The best trial's hyperparameters, fixed ones included, from DescribeHyperParameterTuningJob.

    Raises:
        UserError: the tuning job has no best trial (yet).
    """
    name = tuning_job["HyperParameterTuningJobName"]
    best = tuning_job.get("BestTrainingJob")
    if not best:
        status = tuning_job["HyperParameterTuningJobStatus"]
        raise UserError(f"tuning job {name}: {status}, and no trial has an objective value")
    definitions = tuning_job.get("TrainingJobDefinitions") or [tuning_job["TrainingJobDefinition"]]
    chosen = best.get("TrainingJobDefinitionName")
    fixed = next(
        (each for each in definitions if each.get("DefinitionName") == chosen), definitions[0]
    ).get("StaticHyperParameters", {})
    every = dict(fixed) | dict(best["TunedHyperParameters"])
    return {
        name: unquote_json(value)
        for name, value in every.items()
        if not name.startswith("_tuning_")
    }


def unquote_json(value: str) -> str:
    """A value without the JSON quotes the SDK's tuner puts around categorical ones."""
    if value.startswith('"'):
        try:
            decoded = json.loads(value)
        except ValueError:
            return value
        if isinstance(decoded, str):
            return decoded
    return value


def _is_whole(name: str) -> bool:
    field = Hyperparameters.model_fields.get(canonical(name))
    return field is not None and field.annotation is int
