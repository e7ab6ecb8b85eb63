"""The base classes of debugger rules: select tensors, read their values, and fire with a reason."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, TypeVar

from smdebug.core.modes import ModeKeys
from smdebug.rules.rule import Rule

from container.monitoring.debugger.rules import tensor_values
from container.monitoring.debugger.rules.selection import Selection
from container.monitoring.debugger.rules.tensor_values import Array

Value = TypeVar("Value")


@dataclass(eq=False)
class DebugRule(Rule):  # type: ignore[misc]  # smdebug has no types
    """A rule that is invoked once at each global step, in order.

    A subclass is a dataclass too: its fields are the rule's parameters, whose defaults are in
    `container.rules`. It implements `invoke_at_step(step) -> bool`, counts in `points` what it has
    evaluated, and fires with `return self.fire("why, in one line")`. Tensors that were not saved
    are None or missing from lists, never an error; rules skip them.

    Args:
        base_trial: an smdebug trial.
        action_str: smdebug's actions, performed when `invoke` fires; empty for none.

    Attributes:
        points: number of tensors evaluated, unless the rule documents another unit.
    """

    base_trial: Any
    _: KW_ONLY
    action_str: str = ""

    def __post_init__(self) -> None:
        """Initialise smdebug's rule; a subclass sets up its own state afterwards."""
        super().__init__(self.base_trial, self.action_str, self.read_other_trials())
        self.points = 0
        self._reason = ""
        self._missing = ""

    def read_other_trials(self) -> list[Any] | None:
        """Other trials that the rule reads."""
        return None

    @property
    def details(self) -> str:
        """Why it last fired, or why nothing was evaluated yet; otherwise empty."""
        return self._reason or ("" if self.points else self._missing)

    def fire(self, reason: str) -> bool:
        """Record the reason, a single line; always True."""
        self._reason = " ".join(reason.split())
        return True

    def not_evaluated(self, reason: str) -> None:
        """Record in `details` why the rule could not evaluate anything."""
        self._missing = f"nothing to look at: {' '.join(reason.split())}"

    def names(self, step: int, selection: Selection) -> list[str]:
        """The selected tensors that were saved at a global step, sorted by name.

        Records in `details` if there are none.
        """
        saved = self.base_trial.tensor_names(step=step)
        chosen = selection.filter(saved, self.base_trial)
        if not chosen and not self.points:
            shown = ", ".join(saved[:5]) + (f" and {len(saved) - 5} more" if len(saved) > 5 else "")
            self.not_evaluated(f"no tensor saved so far {selection}; saved are {shown or 'none'}")
        return chosen

    def measure(
        self, step: int, selection: Selection, measure: Callable[[str, int], Value | None]
    ) -> dict[str, Value]:
        """Measure each selected tensor at a global step, and count them in `points`.

        Args:
            step: the step.
            selection: the tensors.
            measure: called with a tensor's name and the step; returns None to skip the tensor.
        """
        values = {name: measure(name, step) for name in self.names(step, selection)}
        measured = {name: value for name, value in values.items() if value is not None}
        self.points += len(measured)
        return measured

    def value(self, name: str, step: int, mode: ModeKeys = ModeKeys.GLOBAL) -> Array | None:
        """The tensor's value at a step of a mode; None if it was not saved."""
        return tensor_values.value(self.base_trial, name, step, mode)

    def reduction(self, name: str, step: int, what: str, *, absolute: bool = False) -> float | None:
        """A reduction of a tensor at a global step, computed or saved; see `tensor_values`.

        Records in `details` if there is none.
        """
        found = tensor_values.reduction(self.base_trial, name, step, what, absolute=absolute)
        if found is None and not self.points:
            self.unreadable(name, f"{'abs_' if absolute else ''}{what}")
        return found

    def unreadable(self, name: str, *wanted: str) -> None:
        """Record in `details` that a tensor was saved in no usable form.

        Args:
            name: the tensor.
            wanted: the reductions that are usable in place of the tensor.
        """
        forms = " or ".join(("whole", *(f"as {form}" for form in wanted[:1]), *wanted[1:]))
        self.not_evaluated(f"{name} has no elements, or was not saved {forms}")

    def mode_of(self, step: int) -> ModeKeys:
        """The mode of a global step, TRAIN or EVAL; GLOBAL if unknown."""
        return self.base_trial.mode(step) or ModeKeys.GLOBAL

    def in_training(self, step: int) -> bool:
        """Whether a global step is a training step, or the trial has no modes."""
        return self.mode_of(step) in (ModeKeys.TRAIN, ModeKeys.GLOBAL)

    def mode_step(self, step: int) -> int:
        """A global step's number in its own mode."""
        found = self.base_trial.mode_step(step)
        return step if found is None else int(found)

    def earlier_steps(self, name: str, step: int) -> list[int]:
        """The steps before this one, of the same mode, at which a tensor was saved.

        Args:
            name: the tensor.
            step: the global step.

        Returns:
            Steps counted in `self.mode_of(step)`, ascending; to be read with that mode.
        """
        steps = self.base_trial.tensor(name).steps(self.mode_of(step), show_incomplete_steps=True)
        return [int(s) for s in steps[: bisect_left(steps, self.mode_step(step))]]


@dataclass(kw_only=True, eq=False)
class TensorRule(DebugRule):
    """A rule about tensors selected by the user.

    Args:
        collection_names: names of collections, separated by commas.
        tensor_regex: expressions for names of further tensors.

    Attributes:
        required: whether one of them must be given; otherwise the default is every tensor.

    Raises:
        RuleError: none is given though one is required, or `tensor_regex` is not a regular
            expression.
    """

    collection_names: str | None
    tensor_regex: str | None
    required: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Parse the selection of tensors."""
        super().__post_init__()
        self.selection = Selection.read(
            self.rule_name,
            collection_names=self.collection_names,
            tensor_regex=self.tensor_regex,
            required=self.required,
        )


def shortened(names: list[str], shown: int = 3) -> str:
    """The first few names, and the number of others."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
