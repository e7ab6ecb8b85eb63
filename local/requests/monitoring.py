"""The debugger and the profiler as hyperparameters, which work everywhere.

monitoring = Monitoring(debug=True, rules=("Overfit",), parameters={"Overfit_patience": "3"})
monitoring.hyperparameters()      # {"debug": "true", "rules": "Overfit", "rule_parameters": …}
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from container.rules.debugger import DEBUG_RULES
from container.rules.profiler import PROFILER_RULES
from container.rules.requests import RuleError, RuleRequest, RuleSpec, parse_rules
from local.errors import UserError

CHANNEL = "rules"
"""The channel in which a container finds a file of the user's own rules."""


@dataclass(frozen=True)
class Monitoring:
    """What is monitored.

    Attributes:
        debug: keep tensors and evaluate rules on them.
        profile: measure where time goes, evaluate the profiler's rules, make the report.
        rules: debugger rules by name; without any, those the container chooses and all own ones.
        parameters: `<Rule>_<parameter>` to its value as text, of either kind of rules.
        stop_on: rules that end training when they fire.
        rules_file: name of the file of own rules in the channel; "" without.
        own: the rules that are in it.
    """

    debug: bool = False
    profile: bool = False
    rules: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    stop_on: tuple[str, ...] = ()
    rules_file: str = ""
    own: tuple[str, ...] = ()

    def hyperparameters(self) -> dict[str, str]:
        """The hyperparameters of our container; only those that were set."""
        given = {
            "debug": "true" if self.debug else "",
            "profile": "true" if self.profile else "",
            "rules": ",".join(self.rules or (("auto", *self.own) if self.own else ())),
            "rule_parameters": json.dumps(
                {name: _typed(value) for name, value in self.parameters.items()}
            ),
            "stop_on": ",".join(self.stop_on),
            "rules_file": self.rules_file,
        }
        return {name: value for name, value in given.items() if value not in ("", "{}")}

    def debug_rules(self) -> tuple[RuleRequest, ...]:
        """The debugger rules, with all their parameters.

        Raises:
            UserError: a rule or a parameter is unknown, or a value is not what it should be.
        """
        if not self.debug:
            return ()
        names = [name for name in self.rules or ("auto", *self.own) if name.lower() != "none"]
        given = {
            name: value
            for name, value in self.parameters.items()
            if not is_profiler_parameter(name)
        }
        try:
            return parse_rules(DEBUG_RULES, names, given, self.stop_on, own=bool(self.rules_file))
        except RuleError as error:
            raise UserError(str(error)) from None

    def check(self) -> None:
        """Refuse what the container would refuse, or not understand.

        Raises:
            UserError: one line that names the rule or parameter, and the nearest known ones.
        """
        profiler_names = {name.lower() for name in PROFILER_RULES}
        for name in (*self.rules, *self.stop_on):
            if name.lower() in profiler_names:
                raise UserError(
                    f"--rules: {name} is a rule of the profiler, which evaluates all of its own "
                    "with --profile"
                )
        if self.parameters and not (self.debug or self.profile):
            raise UserError("--rule-parameter: nothing is evaluated without --debug or --profile")
        profiler_rules(self.parameters)
        if self.debug:
            self._check_own()
            self.debug_rules()
        elif any(not is_profiler_parameter(name) for name in self.parameters):
            raise UserError("--rule-parameter: debugger rules are evaluated with --debug alone")

    def _check_own(self) -> None:
        """With a file of own rules the container takes any name for one of them."""
        known = {**DEBUG_RULES, **{name: RuleSpec(name, "", {}) for name in self.own}}
        lower = {"auto", "none", *(name.lower() for name in known)}
        for name in self.rules if self.rules_file else ():
            if name.lower() not in lower:
                try:
                    parse_rules(known, [name])
                except RuleError as error:
                    raise UserError(f"--rules: {error}") from None


def profiler_rules(parameters: Mapping[str, Any]) -> tuple[RuleRequest, ...]:
    """All rules of the profiler, with those of the parameters that are theirs.

    Raises:
        UserError: a parameter is unknown, or a value is not what it should be.
    """
    given = {name: value for name, value in parameters.items() if is_profiler_parameter(name)}
    try:
        return parse_rules(PROFILER_RULES, ["auto"], given)
    except RuleError as error:
        raise UserError(str(error)) from None


def is_profiler_parameter(name: str) -> bool:
    """Whether `<Rule>_<parameter>` names a rule of the profiler."""
    return name.partition("_")[0].lower() in {rule.lower() for rule in PROFILER_RULES}


def split_names(given: Iterable[str]) -> tuple[str, ...]:
    """Names given one by one or with commas between them."""
    return tuple(name.strip() for word in given for name in word.split(",") if name.strip())


def _typed(value: str) -> float | bool | str | None:
    """A value's text as JSON would have it, where it is a number or a truth value."""
    try:
        found = json.loads(value.lower().replace("none", "null"))
    except ValueError:
        return value
    return found if isinstance(found, float | int | bool) or found is None else value
