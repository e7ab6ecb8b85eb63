"""A rule about the network's inputs: images that are not normalised.

Source: the SageMaker developer guide's list of built-in Debugger rules.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from smdebug.exceptions import SMDebugError

from container.monitoring.debugger.rules.base import DebugRule
from container.monitoring.debugger.rules.selection import Selection


@dataclass(kw_only=True, eq=False)
class CheckInputImages(DebugRule):
    """Fires when the images' mean differs from zero, in any channel, by more than `threshold_mean`.

    The mean is over all pixels of a channel in all images saved so far, of training and evaluation;
    it is evaluated once there are `threshold_samples` images. Where the images were saved only as
    their mean, that mean over all channels stands for them.

    Args:
        base_trial: an smdebug trial with image batches (N, …).
        threshold_mean: as above.
        threshold_samples: as above.
        regex: expressions for the tensors that hold images.
        channel: the dimension of the channels: 1 for (N, C, H, W); -1 for the last.
    """

    threshold_mean: float
    threshold_samples: int
    regex: str
    channel: int

    def __post_init__(self) -> None:
        """No image has been seen yet."""
        super().__post_init__()
        self._selection = Selection.read(
            self.rule_name, tensor_regex=self.regex, regex_parameter="regex"
        )
        self._sums: NDArray[np.float64] | None = None

    def invoke_at_step(self, step: int) -> bool:
        """Add this step's images; judge when there are enough."""
        added = False
        for name in self.names(step, self._selection):
            found = self._means(name, step)
            if found is None:
                continue
            means, images = found
            if self._sums is None or self._sums.shape != means.shape:
                self._sums, self.points = np.zeros_like(means), 0
            self._sums += means * images
            self.points += images
            added = True
        if not added or self._sums is None:
            return False
        if self.points < self.threshold_samples:
            self._reason = (
                f"not judged: {self.points} images so far, {self.threshold_samples} needed"
            )
            return False
        self._reason = ""
        means = self._sums / self.points
        worst = int(np.abs(means).argmax())
        if not abs(means[worst]) > self.threshold_mean:
            return False
        where = f"channel {worst} of " if len(means) > 1 else ""
        return self.fire(
            f"the mean of {where}{self.points} images is {means[worst]:.3g}, more than "
            f"{self.threshold_mean:g} from 0: they do not look normalised"
        )

    def _means(self, name: str, step: int) -> tuple[NDArray[np.float64], int] | None:
        """The mean of every channel in one batch, and how many images it has."""
        value = self.value(name, step)
        if value is None:
            mean = self.reduction(name, step, "mean")
            return None if mean is None else (np.array([mean]), self._images(name, step))
        if not value.size or not -value.ndim <= self.channel < value.ndim:
            self.not_evaluated(
                f"{name} has the shape {value.shape}, without dimension {self.channel}"
            )
            return None
        channel = self.channel % value.ndim
        others = tuple(d for d in range(value.ndim) if d != channel)
        return value.mean(axis=others, dtype=np.float64), len(value)

    def _images(self, name: str, step: int) -> int:
        """How many images a batch had of which only the mean was saved; 1 if that was not."""
        try:
            return int(self.base_trial.tensor(name).shape(step)[0])
        except (SMDebugError, IndexError, TypeError):
            return 1
