"""An endpoint that runs: its containers of now, across updates."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from local.emulator.hosting.data_capture import DataCapture
from local.emulator.hosting.deployment import EndpointDeployment
from local.emulator.hosting.fleet import Fleet, Unavailable
from local.emulator.hosting.instances import Instance
from local.emulator.hosting.variants import Variant


@dataclass
class ActiveEndpoint:
    """An endpoint whose containers run.

    Attributes:
        fleet: its containers; an update puts another in their place.
        deployment: what they were started from.
        capture: where its traffic is captured; None for nowhere.
        since: when the fleet came up.
    """

    fleet: Fleet
    deployment: EndpointDeployment
    capture: DataCapture | None
    since: datetime

    @contextmanager
    def borrow(self, target: str | None = None) -> Iterator[tuple[Variant, Instance]]:
        """A container for one request; see `Fleet.borrow`. It is right across an update."""
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
