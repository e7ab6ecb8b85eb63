"""What runs in a region: the services that the API calls, started and stopped with the server."""

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
    """What lives as long as the server does."""

    def recover(self) -> None:
        """Continue what an earlier server left running."""

    def shutdown(self) -> None:
        """Interrupt what runs so that `recover` can continue it."""


@dataclass(frozen=True)
class Services(Context):
    """A region's context, and its services."""

    training: TrainingJobs
    tuning: TuningJobs
    transform: TransformJobs
    endpoints: Endpoints

    @classmethod
    def build(cls, context: Context) -> "Services":
        """The services of a region; nothing runs before `recover`."""
        training = TrainingJobs(context)
        return cls(
            **vars(context),
            training=training,
            tuning=TuningJobs(context, training),
            transform=TransformJobs(context),
            endpoints=Endpoints(context),
        )

    def recover(self) -> None:
        """Continue what an earlier server left running; an error of one stops no other."""
        for name, service in self._ordered():
            try:
                service.recover()
            except Exception:
                logger.exception("%s: what an earlier server left cannot be recovered", name)

    def shutdown(self) -> None:
        """Interrupt what runs so that `recover` can continue it; an error of one stops no other.

        Takes as long as jobs take to write a checkpoint, 120 seconds at most.
        """
        for name, service in reversed(self._ordered()):
            try:
                service.shutdown()
            except Exception:
                logger.exception("%s: not everything was stopped", name)

    def _ordered(self) -> list[tuple[str, Service]]:
        """In the order they recover: a tuning job looks for its training jobs."""
        return [
            ("training", self.training),
            ("tuning", self.tuning),
            ("transform", self.transform),
            ("endpoints", self.endpoints),
        ]
