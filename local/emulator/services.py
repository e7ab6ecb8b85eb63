"""A region's services, which start and stop with the server."""

import logging
from dataclasses import dataclass
from typing import Protocol

from local.emulator.context import Context
from local.emulator.hosting.endpoints import Endpoints
from local.emulator.training.jobs import TrainingJobs
from local.emulator.transform.jobs import TransformJobs
from local.emulator.tuning.jobs import TuningJobs

logger = logging.getLogger(__name__)


class Service(Protocol):
    """A service that starts and stops with the server."""

    def recover(self) -> None:
        """Resume what was running in an earlier server."""

    def shutdown(self) -> None:
        """Interrupt everything so that `recover` can resume it."""


@dataclass(frozen=True)
class Services(Context):
    """A region's context, and its services."""

    training: TrainingJobs
    tuning: TuningJobs
    transform: TransformJobs
    endpoints: Endpoints

    @classmethod
    def build(cls, context: Context) -> "Services":
        """Create the services of a region; nothing runs before `recover`."""
        training = TrainingJobs(context)
        return cls(
            **vars(context),
            training=training,
            tuning=TuningJobs(context, training),
            transform=TransformJobs(context),
            endpoints=Endpoints(context),
        )

    def recover(self) -> None:
        """Resume what was running in an earlier server; log errors of single services."""
        for name, service in self._ordered():
            try:
                service.recover()
            except Exception:
                logger.exception("%s: cannot recover the state of an earlier server", name)

    def shutdown(self) -> None:
        """Interrupt everything so that `recover` can resume it; log errors of single services.

        It waits for jobs to save a checkpoint, for up to 120 seconds.
        """
        for name, service in reversed(self._ordered()):
            try:
                service.shutdown()
            except Exception:
                logger.exception("%s: not everything was stopped", name)

    def _ordered(self) -> list[tuple[str, Service]]:
        """The services in the order of recovery: tuning jobs look for their training jobs."""
        return [
            ("training", self.training),
            ("tuning", self.tuning),
            ("transform", self.transform),
            ("endpoints", self.endpoints),
        ]
