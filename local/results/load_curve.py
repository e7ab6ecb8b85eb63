"""What a load test measured, and what follows from it: the knee, instances and their price."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from local.client.load import Level
from local.requests.prices import HOURLY, MONTH, SERVERLESS_GB_SECOND

SAFETY_FACTOR = 0.5
"""The share of what an instance can answer that autoscaling shall keep it at (developer guide,
"Load testing your auto scaling configuration": start with 0.5)."""


def knee(levels: Sequence[Level]) -> Level:
    """The level with the most power: throughput divided by latency.

    Beyond it latency grows faster than throughput (Kleinrock, "Power and deterministic rules of
    thumb for probabilistic problems in computer communications", ICC 1979).
    """
    return max(levels, key=lambda level: level.rate / level.mean)


def fastest_within(levels: Sequence[Level], p99: float) -> Level | None:
    """The level that answered most requests with a 99th percentile of at most `p99` seconds."""
    kept = [level for level in levels if level.percentile(99) <= p99]
    return max(kept, key=lambda level: level.rate, default=None)


def saturated(levels: Sequence[Level]) -> str | None:
    """Why more requests at once would show nothing new, or None.

    Two levels in a row that answer less than 5 % more than the best before them, or requests that
    fail: what an endpoint beyond its limit does.
    """
    last = levels[-1]
    if last.error_share > 0.01:
        return f"{last.error_share:.0%} of the requests failed"
    if len(levels) >= 3:
        before = max(level.rate for level in levels[:-2])
        if max(level.rate for level in levels[-2:]) < 1.05 * before:
            return "it answers no more requests a second"
    return None


@dataclass(frozen=True)
class VariantCapacity:
    """What answered the load test.

    Attributes:
        instance_type: SageMaker's name; None for a serverless endpoint.
        instances: how many of them.
        memory_gb: of a serverless endpoint.
    """

    instance_type: str | None
    instances: int = 1
    memory_gb: float = 0.0


@dataclass(frozen=True)
class Sizing:
    """What it takes to answer `rate` requests a second, each as fast as in the level it is from.

    Attributes:
        rate: requests a second.
        instances: how many; None for a serverless endpoint.
        hourly: USD, on demand in us-east-1; None when the type's price is unknown.
    """

    rate: float
    instances: int | None
    hourly: float | None

    @property
    def monthly(self) -> float | None:
        """USD for a month without a pause."""
        return None if self.hourly is None else self.hourly * MONTH


def calls_per_instance(level: Level, capacity: VariantCapacity) -> float:
    """Calls a minute per instance, for autoscaling: `SageMakerVariantInvocationsPerInstance`."""
    return level.rate / capacity.instances * SAFETY_FACTOR * 60


def size(level: Level, capacity: VariantCapacity, rate: float) -> Sizing:
    """Instances and their price for `rate` requests a second.

    A serverless endpoint is billed for the seconds that it answers: its requests' mean latency, as
    the client saw it.
    """
    if capacity.instance_type is None:
        busy = rate * level.mean
        return Sizing(rate, None, busy * capacity.memory_gb * SERVERLESS_GB_SECOND * 3600)
    instances = math.ceil(rate / (level.rate / capacity.instances))
    price = HOURLY.get(capacity.instance_type)
    return Sizing(rate, instances, None if price is None else price * instances)
