"""The maximum cost of requests, from a table of AWS prices.

The table has on-demand prices in us-east-1 in USD an hour, each confirmed by two published copies
of AWS's price list. Prices of other instance types are unknown.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

AS_OF = "2026-11-21"
"""Date of the prices."""
REGION = "us-east-1"
CHECK = "check aws.amazon.com/sagemaker/pricing"
SPOT = "; probably less with spot instances"

HOURLY: Mapping[str, float] = {
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.m5.4xlarge": 0.922,
    "ml.m5.12xlarge": 2.765,
    "ml.m5.24xlarge": 5.53,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
    "ml.c5.4xlarge": 0.816,
    "ml.c5.9xlarge": 1.836,
    "ml.g4dn.xlarge": 0.7364,
    "ml.g4dn.2xlarge": 0.94,
    "ml.g4dn.4xlarge": 1.505,
    "ml.g4dn.8xlarge": 2.72,
    "ml.g4dn.12xlarge": 4.89,
    "ml.g5.xlarge": 1.408,
    "ml.g5.2xlarge": 1.515,
    "ml.g5.4xlarge": 2.03,
    "ml.g5.8xlarge": 3.06,
    "ml.g5.12xlarge": 7.09,
    "ml.g5.16xlarge": 5.12,
    "ml.g5.24xlarge": 10.18,
    "ml.g5.48xlarge": 20.36,
    "ml.g6.xlarge": 1.127,
    "ml.g6.2xlarge": 1.222,
    "ml.g6.4xlarge": 1.654,
    "ml.g6.12xlarge": 5.752,
    "ml.g6.24xlarge": 8.344,
    "ml.g6.48xlarge": 16.688,
}
"""USD an hour, the same for training, hosting and batch transform."""
SERVERLESS_GB_SECOND = 0.00002
"""USD per GB-second of a serverless endpoint while it processes requests."""
DEFAULT_RUNTIME = 24 * 3600
"""Default MaxRuntimeInSeconds of a training job (API reference)."""
DAY, MONTH = 24, 730
"""Hours in a day and in a month."""


@dataclass(frozen=True)
class Cost:
    """The maximum cost of one request.

    Attributes:
        what: the resource that is billed.
        usd: the maximum cost; None if a price is unknown or the duration has no limit.
        detail: one line on how it is computed.
    """

    what: str
    usd: float | None
    detail: str


def maximum_costs(requests: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Cost]:
    """The maximum cost of each (operation, request) that creates a billed resource."""
    listed = list(requests)
    costs: list[Cost] = []
    for operation, request in listed:
        match operation:
            case "CreateTrainingJob":
                costs.append(_training(request))
            case "CreateHyperParameterTuningJob":
                costs.append(_tuning(request))
            case "CreateTransformJob":
                costs.append(_transform(request))
            case "CreateEndpointConfig":
                costs += _endpoint(request, listed)
    return costs


def lines(costs: Sequence[Cost], region: str = REGION) -> list[str]:
    """A line per cost, the total, and the source of the prices."""
    if not costs:
        return ["nothing: these requests are not billed by the hour"]
    shown = [
        f"{cost.what}: {'unknown' if cost.usd is None else f'{cost.usd:,.2f} USD'} ({cost.detail})"
        for cost in costs
    ]
    known = [cost.usd for cost in costs if cost.usd is not None]
    if len(costs) > 1 and len(known) == len(costs):
        shown.append(f"total: {sum(known):,.2f} USD")
    elsewhere = "" if region == REGION else f" ({region} may differ)"
    return [
        *shown,
        f"instances on demand in {REGION}{elsewhere}, {AS_OF}; storage and transfer are extra; "
        f"{CHECK}",
    ]


def _training(request: Mapping[str, Any]) -> Cost:
    seconds = _runtime(request)
    spot = SPOT if request.get("EnableManagedSpotTraining") else ""
    resources = request["ResourceConfig"]
    # A warm pool is billed while it is kept alive for the next job.
    usd, detail = _fleet(resources, seconds + resources.get("KeepAlivePeriodInSeconds", 0))
    return Cost(f"training job {request['TrainingJobName']}", usd, detail + spot)


def _tuning(request: Mapping[str, Any]) -> Cost:
    config = request["HyperParameterTuningJobConfig"]
    limits = config["ResourceLimits"]
    jobs = limits.get("MaxNumberOfTrainingJobs") or _combinations(config)
    definitions = request.get("TrainingJobDefinitions") or [request["TrainingJobDefinition"]]
    each: list[tuple[float, float, str]] = []
    what = f"tuning job {request['HyperParameterTuningJobName']}"
    for definition in definitions:
        resources = definition.get("ResourceConfig") or definition.get(
            "HyperParameterTuningResourceConfig", {}
        )
        usd, detail = _fleet(resources, _runtime(definition))
        if usd is None:
            return Cost(what, None, detail)
        each.append((usd, _runtime(definition), detail))
    most_expensive, _, detail = max(each)
    total, detail = most_expensive * jobs, f"{jobs} jobs, each {detail}"
    seconds = limits.get("MaxRuntimeInSeconds")
    if seconds is not None:
        rate = max(usd / runtime for usd, runtime, _ in each)
        capped = rate * seconds * limits["MaxParallelTrainingJobs"]
        if capped < total:
            total, detail = capped, f"{detail}, stopped after {_duration(seconds)} in total"
    spot = any(definition.get("EnableManagedSpotTraining") for definition in definitions)
    return Cost(what, total, detail + (SPOT if spot else ""))


def _combinations(config: Mapping[str, Any]) -> int:
    """The number of trials of a grid search, which tries every combination."""
    ranges = config.get("ParameterRanges", {}).get("CategoricalParameterRanges", ())
    return math.prod(len(each["Values"]) for each in ranges)


def _transform(request: Mapping[str, Any]) -> Cost:
    resources = request["TransformResources"]
    hourly, detail = _hourly([(resources["InstanceType"], resources["InstanceCount"])])
    what = f"batch transform {request['TransformJobName']}"
    rate = "" if hourly is None else f" = {hourly:,.4g} USD an hour"
    return Cost(what, None, f"{detail}{rate}, until all images are processed")


def _endpoint(
    config: Mapping[str, Any], requests: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[Cost]:
    hours = _hours_to_live(requests)
    costs: list[Cost] = []
    for variant in config["ProductionVariants"]:
        what = f"endpoint, variant {variant['VariantName']}"
        serverless = variant.get("ServerlessConfig")
        if serverless:
            memory, calls = serverless["MemorySizeInMB"] / 1024, serverless["MaxConcurrency"]
            hourly = SERVERLESS_GB_SECOND * memory * calls * 3600
            detail = (
                f"serverless: nothing while idle; {calls} concurrent invocations with {memory:g} "
                "GB, continuously"
            )
            costs.append(_running(what, hourly, detail, hours))
            continue
        most = max([variant["InitialInstanceCount"], *_scaled_to(requests)])
        rate, detail = _hourly([(variant["InstanceType"], most)])
        costs.append(_running(what, rate, detail, hours))
    return costs


def _running(what: str, hourly: float | None, detail: str, hours: float | None) -> Cost:
    if hourly is None:
        return Cost(what, None, detail)
    rates = (
        f"{detail}: {hourly:,.4g} USD an hour, {hourly * DAY:,.2f} a day, "
        f"{hourly * MONTH:,.2f} a month"
    )
    if hours is None:
        return Cost(f"{what}, per month", hourly * MONTH, f"{rates}, until it is deleted")
    return Cost(f"{what}, in total", hourly * hours, f"{rates}; deleted after {hours:.4g} h")


def _hours_to_live(requests: Sequence[tuple[str, Mapping[str, Any]]]) -> float | None:
    for operation, request in requests:
        if operation in ("CreateEndpoint", "AddTags"):
            for tag in request.get("Tags", ()):
                if tag["Key"] == "berth:ttl":
                    return float(tag["Value"]) / 3600
        if operation == "CreateSchedule":
            at = re.fullmatch(r"at\((.+)\)", request["ScheduleExpression"])
            if at:
                end = datetime.fromisoformat(at[1]).replace(tzinfo=UTC)
                return max(0.0, (end - datetime.now(UTC)).total_seconds()) / 3600
    return None


def _scaled_to(requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[int]:
    return [
        request["MaxCapacity"]
        for operation, request in requests
        if operation == "RegisterScalableTarget"
    ]


def _fleet(resources: Mapping[str, Any], seconds: float) -> tuple[float | None, str]:
    groups = resources.get("InstanceGroups") or resources.get("InstanceConfigs") or [resources]
    pairs = [(group["InstanceType"], group["InstanceCount"]) for group in groups]
    if resources.get("InstanceConfigs"):
        # These are alternatives: take the most expensive one.
        pairs = [max(pairs, key=lambda pair: HOURLY.get(pair[0], float("inf")) * pair[1])]
    hourly, detail = _hourly(pairs)
    if hourly is None:
        return None, detail
    return hourly * seconds / 3600, f"{detail} for at most {_duration(seconds)}"


def _hourly(fleet: Sequence[tuple[str, int]]) -> tuple[float | None, str]:
    for kind, _ in fleet:
        if kind not in HOURLY:
            return None, f"the price of {kind} is unknown; {CHECK}"
    detail = " + ".join(f"{count} x {kind} at {HOURLY[kind]:g} USD/h" for kind, count in fleet)
    return sum(HOURLY[kind] * count for kind, count in fleet), detail


def _runtime(request: Mapping[str, Any]) -> float:
    return float(request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_RUNTIME))


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.4g} h" if seconds >= 3600 else f"{seconds / 60:.4g} min"
