"""Evaluations within a run: where one ends, its loss, and that of the training before it."""

from dataclasses import dataclass, field

import numpy as np
from smdebug.core.modes import ModeKeys


@dataclass
class Evaluations:
    """Cuts a run into evaluations: the losses of one, and those of the training before it.

    Attributes:
        training: losses of training since the last evaluation.
        validation: losses of the evaluation under way.
    """

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    _trained: int = 0
    _training_mean: float | None = None

    def add(
        self, mode: ModeKeys, losses: list[float], trained: int
    ) -> tuple[float | None, float] | None:
        """Take one step's losses.

        Args:
            mode: TRAIN or EVAL.
            losses: what was saved of it.
            trained: steps of training before it, saved or not: evaluations differ in them.

        Returns:
            Mean training and mean validation loss of the evaluation that is over now, if one is.
        """
        over = None
        if mode is not ModeKeys.EVAL or trained != self._trained:
            over = self.end()
        if mode is ModeKeys.EVAL:
            self._trained = trained
            self.validation += losses
        else:
            self.training += losses
        return over

    def end(self) -> tuple[float | None, float] | None:
        """The means of the evaluation under way; the training loss is the last known, if any is."""
        if not self.validation:
            return None
        if self.training:
            self._training_mean = float(np.mean(self.training))
        validation = float(np.mean(self.validation))
        self.training, self.validation = [], []
        return self._training_mean, validation
