"""The base class of debugger rules: selected tensors, their values and the reason for firing."""

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
    """A rule that is invoked at one global step after another, each once, in their order.

    A subclass is a dataclass too: its fields are the rule's parameters, and `container.rules` has
    their defaults. It implements `invoke_at_step(step) -> bool`, adds to `points` what it has
    evaluated, and fires with `return self.fire("why, in one line")`. Tensors that were not saved
    are None or missing from the lists here, never an error; a rule skips them.

    Args:
        base_trial: an smdebug trial.
        action_str: smdebug's actions, carried out when `invoke` fires; empty for none.

    Attributes:
        points: how many tensors it has evaluated, unless the rule documents another unit.
    """

    base_trial: Any
    _: KW_ONLY
    action_str: str = ""

    def __post_init__(self) -> None:
        """What smdebug's constructor does; a subclass sets up its own state after it."""
        super().__init__(self.base_trial, self.action_str, self.read_other_trials())
        self.points = 0
        self._reason = ""
        self._missing = ""

    def read_other_trials(self) -> list[Any] | None:
        """Further trials that the rule reads."""
        return None

    @property
    def details(self) -> str:
        """Why it fired last; why nothing was evaluated while `points` is 0; else empty."""
        return self._reason or ("" if self.points else self._missing)

    def fire(self, reason: str) -> bool:
        """Record the reason, a single line; always True."""
        self._reason = " ".join(reason.split())
        return True

    def not_evaluated(self, reason: str) -> None:
        """Record in `details` why the rule could not evaluate anything."""
        self._missing = f"nothing to look at: {' '.join(reason.split())}"

    def names(self, step: int, selection: Selection) -> list[str]:
        """The chosen tensors that were saved at a global step, in alphabetical order.

        That there are none is recorded in `details`.
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
        """What is measured of each chosen tensor at a global step; counts these in `points`.

        Args:
            step: the step.
            selection: the tensors.
            measure: from a tensor's name and the step; None leaves the tensor out.
        """
        values = {name: measure(name, step) for name in self.names(step, selection)}
        measured = {name: value for name, value in values.items() if value is not None}
        self.points += len(measured)
        return measured

    def value(self, name: str, step: int, mode: ModeKeys = ModeKeys.GLOBAL) -> Array | None:
        """The whole tensor at a step of a mode; None where it is not there."""
        return tensor_values.value(self.base_trial, name, step, mode)

    def reduction(self, name: str, step: int, what: str, *, absolute: bool = False) -> float | None:
        """A reduction of a tensor at a global step, computed or as saved; see `tensor_values`.

        That there is none is recorded in `details`.
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
        """Whether a global step was one of training or evaluation; GLOBAL if that is not known."""
        return self.base_trial.mode(step) or ModeKeys.GLOBAL

    def in_training(self, step: int) -> bool:
        """Whether a global step is one of training, or of a trial without modes."""
        return self.mode_of(step) in (ModeKeys.TRAIN, ModeKeys.GLOBAL)

    def mode_step(self, step: int) -> int:
        """A global step's number among the steps of its own mode."""
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
    """A rule about tensors of the user's choice.

    Args:
        collection_names: names of collections, separated by commas.
        tensor_regex: expressions for further tensors' names.

    Attributes:
        required: whether neither given is an error instead of every tensor.

    Raises:
        RuleError: no tensors are chosen though that is required; `tensor_regex` is not a regular
            expression.
    """

    collection_names: str | None
    tensor_regex: str | None
    required: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Read which tensors are chosen."""
        super().__post_init__()
        self.selection = Selection.read(
            self.rule_name,
            collection_names=self.collection_names,
            tensor_regex=self.tensor_regex,
            required=self.required,
        )


def shortened(names: list[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
