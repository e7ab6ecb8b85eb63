"""The deployment of an endpoint configuration, and the containers that run it."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from local.emulator.context import Context
from local.emulator.errors import invalid
from local.emulator.hosting.data_capture import DataCapture
from local.emulator.hosting.fleet import Fleet, Unavailable
from local.emulator.hosting.instances import Instance
from local.emulator.hosting.variants import Variant, read_variants
from local.emulator.store import Kind


@dataclass(frozen=True)
class EndpointDeployment:
    """A snapshot of an endpoint configuration and its models; later changes have no effect.

    Attributes:
        config: the endpoint configuration's name.
        variants: the variants to run.
        capture: its DataCaptureConfig.
        asynchronous: its AsyncInferenceConfig.
    """

    config: str
    variants: list[Variant]
    capture: dict[str, Any] | None
    asynchronous: dict[str, Any] | None

    @classmethod
    def read(cls, context: Context, config: str) -> "EndpointDeployment":
        """Read an endpoint configuration and its models.

        Raises:
            ServiceError: the configuration or a model does not exist.
        """
        body = context.hosted(Kind.ENDPOINT_CONFIG, config).body
        return cls(
            config,
            read_variants(context, body),
            body.get("DataCaptureConfig"),
            body.get("AsyncInferenceConfig"),
        )

    @classmethod
    def load(cls, kept: dict[str, Any]) -> "EndpointDeployment":
        """The inverse of `dump`."""
        return cls(
            kept["config"],
            [Variant(**one) for one in kept["variants"]],
            kept["capture"],
            kept["asynchronous"],
        )

    def dump(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return {
            "config": self.config,
            "variants": [vars(one) for one in self.variants],
            "capture": self.capture,
            "asynchronous": self.asynchronous,
        }

    def retaining(
        self, request: dict[str, Any], running: "EndpointDeployment"
    ) -> "EndpointDeployment":
        """Apply the properties of the running deployment that UpdateEndpoint retains.

        Raises:
            ServiceError: the endpoint is asynchronous, and would no longer be.
        """
        if running.asynchronous and not self.asynchronous:
            raise invalid(
                "The AsyncInferenceConfig parameter cannot be removed from this endpoint "
                f"{request['EndpointName']}. Create another endpoint for real-time inference."
            )
        if not request.get("RetainAllVariantProperties"):
            return self
        excluded = {
            one["VariantPropertyType"]
            for one in request.get("ExcludeRetainedVariantProperties", [])
        }
        before = {one.name: one for one in running.variants}
        variants = []
        for variant in self.variants:
            old = before.get(variant.name, variant)
            weight = variant.weight if "DesiredWeight" in excluded else old.weight
            count = variant.count if "DesiredInstanceCount" in excluded else old.count
            variants.append(replace(variant, weight=weight, count=count))
        capture = self.capture if "DataCaptureConfig" in excluded else running.capture
        return replace(self, variants=variants, capture=capture)


@dataclass
class ActiveEndpoint:
    """An endpoint with running containers.

    Attributes:
        fleet: its containers; an update replaces it.
        deployment: the deployment that they run.
        capture: captures its traffic; None if disabled.
        since: when the fleet started.
    """

    fleet: Fleet
    deployment: EndpointDeployment
    capture: DataCapture | None
    since: datetime

    @contextmanager
    def borrow(self, target: str | None = None) -> Iterator[tuple[Variant, Instance]]:
        """Borrow a container for a request; see `Fleet.borrow`. Safe during an update."""
        with contextlib.ExitStack() as stack:
            while True:
                fleet = self.fleet
                try:
                    borrowed = stack.enter_context(fleet.borrow(target))
                    break
                except Unavailable:
                    if self.fleet is fleet:
                        raise
            yield borrowed
