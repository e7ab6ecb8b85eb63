"""Explains a prediction: class activation where the graph allows it, else occlusion."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from time import monotonic

import numpy as np

from container.artifact import Artifact
from serve.errors import OutOfMemory, TimedOut
from serve.explanations.class_activation import ClassActivation
from serve.explanations.heat_map import HeatMap, scaled
from serve.payloads.images import Pixels, Probabilities

GRID = 7
"""Positions of the patch across an image, and down: as many as most networks' last map has."""
PATCH = 2
"""Sides of the patch, in steps of that grid: neighbours overlap by half."""


class Explainer:
    """The heat maps of one model's predictions; made when the first is asked for.

    Args:
        artifact: the model.
        predict: probabilities for images, by a deadline on the monotonic clock.
        cpus: cores for the class activation; 0 where the model is served by a GPU, whose
            predictions are fast enough for occlusion.
        room: given a deadline, holds memory for a second copy of the model within its block, or
            raises OutOfMemory or TimedOut.
    """

    def __init__(
        self,
        artifact: Artifact,
        predict: Callable[[Iterator[Pixels], float], list[Probabilities]],
        cpus: int,
        room: Callable[[float], AbstractContextManager[object]] = lambda _: nullcontext(),
    ) -> None:
        self._artifact, self._predict, self._cpus = artifact, predict, cpus
        self._room = room
        self._activation: ClassActivation | None = None
        self._compiled = False
        self._lock = threading.Lock()

    def explain(self, image: Pixels, label: int, deadline: float) -> HeatMap:
        """How much each part of an image (crop, crop, 3) speaks for class number `label`.

        Raises:
            TimedOut: the deadline passed.
            Overloaded, EngineFailed: as predictions raise them.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - monotonic())):
            raise TimedOut("no answer within the time an invocation may take")
        try:
            if not self._compiled:
                self._compile(deadline)
            if self._activation is not None:
                return self._activation.heat(image, label)
        except OutOfMemory:
            pass  # Occlusion needs none of its own; the next explanation may find more.
        finally:
            self._lock.release()
        return self._occlude(image, label, deadline)

    def _compile(self, deadline: float) -> None:
        graph = self._artifact.openvino if self._cpus else None
        if graph is not None:
            with self._room(deadline):
                self._activation = ClassActivation.of(graph, self._cpus)
        self._compiled = True

    def _occlude(self, image: Pixels, label: int, deadline: float) -> HeatMap:
        """What the class loses where a patch of the mean colour hides a part of the image.

        Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.
        """
        mean = np.array(self._artifact.mean) * 255
        height, width = image.shape[:2]

        def hidden() -> Iterator[Pixels]:
            yield image
            for row in range(GRID):
                for column in range(GRID):
                    covered = image.copy()
                    covered[_covered(row, height), _covered(column, width)] = mean
                    yield covered

        rows = self._predict(hidden(), deadline)
        # Log-odds still tell parts apart where a sure prediction's probability stays close to 1.
        sure = np.clip([row[label] for row in rows], 1e-6, 1 - 1e-6).astype(np.float64)
        scores = np.log(sure / (1 - sure))
        return scaled((scores[0] - scores[1:]).reshape(GRID, GRID))


def _covered(position: int, length: int) -> slice:
    middle = (position + 0.5) * length / GRID
    reach = PATCH * length / GRID / 2
    return slice(max(0, round(middle - reach)), max(1, round(middle + reach)))
