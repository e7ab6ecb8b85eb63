"""Analysis of a load test: the knee of the curve, the number of instances and their price."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from local.client.load import Level
from local.requests.prices import HOURLY, MONTH, SERVERLESS_GB_SECOND

SAFETY_FACTOR = 0.5
"""The autoscaling target as a share of an instance's capacity (developer guide, "Load testing your
auto scaling configuration": start with 0.5)."""


def knee(levels: Sequence[Level]) -> Level:
    """The level with the highest power, which is throughput divided by latency.

    Beyond it, latency grows faster than throughput (Kleinrock, "Power and deterministic rules of
    thumb for probabilistic problems in computer communications", ICC 1979).
    """
    return max(levels, key=lambda level: level.rate / level.mean)


def fastest_within(levels: Sequence[Level], p99: float) -> Level | None:
    """The level with the highest throughput whose 99th percentile is at most `p99` seconds."""
    within = [level for level in levels if level.percentile(99) <= p99]
    return max(within, key=lambda level: level.rate, default=None)


def saturated(levels: Sequence[Level]) -> str | None:
    """Why a higher concurrency would show nothing new; None if it might.

    An endpoint is saturated if more than 1 % of the requests fail, or if the throughput of the last
    two levels is less than 5 % above the best one before them.
    """
    last = levels[-1]
    if last.error_share > 0.01:
        return f"{last.error_share:.0%} of the requests failed"
    if len(levels) >= 3:
        before = max(level.rate for level in levels[:-2])
        if max(level.rate for level in levels[-2:]) < 1.05 * before:
            return "throughput no longer rises"
    return None


@dataclass(frozen=True)
class VariantCapacity:
    """The capacity under test.

    Attributes:
        instance_type: the instance type; None for a serverless endpoint.
        instances: number of instances.
        memory_gb: memory of a serverless endpoint.
    """

    instance_type: str | None
    instances: int = 1
    memory_gb: float = 0.0


@dataclass(frozen=True)
class Sizing:
    """The capacity for `rate` requests a second at the latency of the measured level.

    Attributes:
        rate: requests a second.
        instances: number of instances; None for a serverless endpoint.
        hourly: USD an hour, on demand in us-east-1; None if the price is unknown.
    """

    rate: float
    instances: int | None
    hourly: float | None

    @property
    def monthly(self) -> float | None:
        """USD for a month of continuous use."""
        return None if self.hourly is None else self.hourly * MONTH


def calls_per_instance(level: Level, capacity: VariantCapacity) -> float:
    """Autoscaling's target for `SageMakerVariantInvocationsPerInstance`, per minute."""
    return level.rate / capacity.instances * SAFETY_FACTOR * 60


def size(level: Level, capacity: VariantCapacity, rate: float) -> Sizing:
    """The instances and their price for `rate` requests a second.

    A serverless endpoint is billed for the duration of its requests, taken from the mean latency
    that the client measured.
    """
    if capacity.instance_type is None:
        busy = rate * level.mean
        return Sizing(rate, None, busy * capacity.memory_gb * SERVERLESS_GB_SECOND * 3600)
    instances = math.ceil(rate / (level.rate / capacity.instances))
    price = HOURLY.get(capacity.instance_type)
    return Sizing(rate, instances, None if price is None else price * instances)
