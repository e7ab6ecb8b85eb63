"""Explains a prediction by class activation, or by occlusion if the graph does not allow it."""

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
"""Positions of the occluding patch in each direction: as many as most networks' last map has."""
PATCH = 2
"""Side of the patch in grid steps: neighbouring patches overlap by half."""


class Explainer:
    """Makes heat maps of one model's predictions; compiles its graph with the first.

    Args:
        artifact: the model.
        predict: returns the probabilities of images by a deadline on the monotonic clock.
        cpus: cores for class activation; 0 if a GPU serves the model, which is fast enough for
            occlusion.
        room: takes a deadline and returns a context that reserves memory for a second copy of the
            model; raises OutOfMemory or TimedOut.
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
        """The heat map of an image (crop, crop, 3) for class number `label`.

        Raises:
            TimedOut: the deadline passed.
            Overloaded, EngineFailed: from predictions.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - monotonic())):
            raise TimedOut("no answer within the time an invocation may take")
        try:
            if not self._compiled:
                self._compile(deadline)
            if self._activation is not None:
                return self._activation.heat(image, label)
        except OutOfMemory:
            pass  # Occlusion needs no extra memory; the next explanation tries again.
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
        """The drop of the class's score when a patch of the mean colour hides part of the image.

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
        # Log-odds, because the probability of a confident prediction hardly changes.
        odds = np.clip([row[label] for row in rows], 1e-6, 1 - 1e-6).astype(np.float64)
        scores = np.log(odds / (1 - odds))
        return scaled((scores[0] - scores[1:]).reshape(GRID, GRID))


def _covered(position: int, length: int) -> slice:
    middle = (position + 0.5) * length / GRID
    reach = PATCH * length / GRID / 2
    return slice(max(0, round(middle - reach)), max(1, round(middle + reach)))
