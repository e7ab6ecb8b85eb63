"""The request of a tuning job: ranges, strategy and limits.

search = Search(ranges=(Range.parse("learning_rate=0.001:0.1:log"),), max_jobs=10)
search.request("my-search", job)        # the CreateHyperParameterTuningJob request
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
"""Hyperparameters that Hyperband takes its MaxResource from (API reference)."""
EXPECTED = "expected name=low:high[:log|linear|reverselog][:int] or name=value,value,…"


@dataclass(frozen=True)
class Range:
    """The range of a hyperparameter.

    Attributes:
        name: the hyperparameter.
        kind: continuous, integer or categorical.
        low, high: inclusive bounds as text; "" for a categorical range.
        scaling: SageMaker's name of the scaling type.
        values: values of a categorical range.
    """

    name: str
    kind: RangeKind
    low: str = ""
    high: str = ""
    scaling: str = "Auto"
    values: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Parse `learning_rate=0.001:0.1:log`, `epochs=2:4:int` or `batch_size=32,64,128`.

        `:int` can be omitted for the integer hyperparameters of berth's image.

        Raises:
            UserError: the text has another form.
        """
        name, equals, rest = (part.strip() for part in text.partition("="))
        if not equals or not name or not rest:
            raise UserError(f"--range: found {text!r}, {EXPECTED}")
        if ":" not in rest:
            values = tuple(value.strip() for value in rest.split(","))
            if "" in values:
                raise UserError(f"--range: found {text!r}, {EXPECTED}")
            if len(set(values)) < len(values):
                raise UserError(f"--range: found {text!r}, expected each value once")
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
            raise UserError(f"--range: found {text!r}, expected a log range above 0")
        if scaling == "ReverseLogarithmic" and not (
            kind == "continuous" and first >= 0 and last < 1
        ):
            raise UserError(
                f"--range: found {text!r}, expected a continuous reverselog range from 0 to below 1"
            )
        return cls(name, kind, low, high, scaling)

    @property
    def extremes(self) -> tuple[str, ...]:
        """The values to validate: the bounds, or every value of a categorical range."""
        return self.values or (self.low, self.high)

    def describe(self) -> str:
        """The allowed values, as text."""
        if self.values:
            return ", ".join(self.values)
        scaling = "" if self.scaling == "Auto" else f", {self.scaling.lower()}"
        return f"{self.low} to {self.high}{scaling}"


@dataclass(frozen=True)
class Search:
    """A hyperparameter search.

    Attributes:
        ranges: the ranges to search; at least one.
        objective: the objective metric, which must be one of the job's metrics.
        goal: Maximize or Minimize.
        strategy: SageMaker's name of the strategy.
        max_jobs: most trials.
        max_parallel: most parallel trials.
        seed: random seed; None lets SageMaker choose.
        early_stopping: stop unpromising trials early.
        target: stop the search at this objective value.
        max_stagnation: stop after this many trials without improvement.
        min_resource, max_resource: Hyperband's fewest and most epochs of a trial.
        max_runtime: longest runtime of the search in seconds.
        parents: parent tuning jobs for a warm start.
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
        """Reject invalid values and combinations, including the bounds of every range.

        Raises:
            UserError: one is invalid; the message names the option.
        """
        job.check()
        names = [canonical(each.name) for each in self.ranges]
        if not names:
            raise UserError("--range: found none, expected one or more (or --preset)")
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"--range: found {name} twice, expected it once")
            if name in map(canonical, job.hyperparameters):
                raise UserError(f"{name}: found a range and a fixed value, expected one of them")
        if self.objective not in job.metrics:
            known = ", ".join(job.metrics) or "none"
            raise UserError(f"--objective: found {self.objective!r}, expected a metric: {known}")
        if is_berth_image(job.image_uri):
            for each in self.ranges:
                for value in each.extremes:
                    trial = dict(job.hyperparameters) | {each.name: value}
                    check_hyperparameters(trial, job.image_uri)
        if self.strategy == "Grid" and any(each.kind != "categorical" for each in self.ranges):
            raise UserError("--strategy Grid: found a range of numbers, expected lists of values")
        if self.strategy != "Hyperband" and (self.min_resource or self.max_resource):
            raise UserError("--min-resource and --max-resource: only supported by Hyperband")
        if self.strategy == "Hyperband" and self.early_stopping:
            raise UserError(
                "--early-stopping: not supported by Hyperband, which stops trials itself"
            )
        if self.strategy == "Hyperband":
            self._check_resources(job)
        if self.max_parallel > self.jobs:
            what = "the grid's combinations" if self.strategy == "Grid" else "--jobs"
            raise UserError(
                f"--parallel: found {self.max_parallel}, expected at most {what} ({self.jobs})"
            )

    @property
    def jobs(self) -> int:
        """The largest number of trials; for a grid, the number of combinations."""
        if self.strategy == "Grid":
            return math.prod(len(each.values) for each in self.ranges)
        return self.max_jobs

    def _check_resources(self, job: TrainingJobRequest) -> None:
        # The SDKs JSON-encode values, so numbers may be in quotes.
        fixed = (
            job.hyperparameters[name].strip().strip('"')
            for name in EPOCHS
            if name in job.hyperparameters
        )
        most = self.max_resource or next((int(each) for each in fixed if each.isdecimal()), None)
        if most is None:
            raise UserError("--max-resource: missing, expected it or a fixed -p epochs=…")
        if (self.min_resource or 1) >= most:
            raise UserError(
                f"--min-resource: found {self.min_resource or 1}, expected less than "
                f"--max-resource or epochs ({most})"
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
        if self.strategy != "Grid":  # a grid search always tries every combination
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
    """The best trial's hyperparameters, including fixed ones.

    Args:
        tuning_job: the DescribeHyperParameterTuningJob response.

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
    """A value without the JSON quotes that the SDK's tuner adds to categorical values."""
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
