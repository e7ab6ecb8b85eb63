"""The debugger and the profiler as hyperparameters of berth's image.

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
"""The channel for the file of custom rules."""


@dataclass(frozen=True)
class Monitoring:
    """Settings of the debugger and the profiler.

    Attributes:
        debug: save tensors and evaluate rules on them.
        profile: profile the job, evaluate the profiler's rules, write the report.
        rules: names of debugger rules; empty for the container's default and all custom rules.
        parameters: values of `<Rule>_<parameter>` as text, for rules of both kinds.
        stop_on: rules that stop training when they fire.
        rules_file: name of the file of custom rules in the channel; "" if there is none.
        own: names of the custom rules.
    """

    debug: bool = False
    profile: bool = False
    rules: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    stop_on: tuple[str, ...] = ()
    rules_file: str = ""
    own: tuple[str, ...] = ()

    def hyperparameters(self) -> dict[str, str]:
        """The hyperparameters of berth's image, without those that are not set."""
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
            UserError: a rule or parameter is unknown, or a value is invalid.
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
        """Reject rules and parameters that the container would reject.

        Raises:
            UserError: one is unknown or invalid; the message names it and similar ones.
        """
        profiler_names = {name.lower() for name in PROFILER_RULES}
        for name in (*self.rules, *self.stop_on):
            if name.lower() in profiler_names:
                raise UserError(
                    f"--rules: {name} is a profiler rule; --profile evaluates all profiler rules"
                )
        if self.parameters and not (self.debug or self.profile):
            raise UserError("--rule-parameter: needs --debug or --profile as well")
        profiler_rules(self.parameters)
        if self.debug:
            self._check_own()
            self.debug_rules()
        elif any(not is_profiler_parameter(name) for name in self.parameters):
            raise UserError("--rule-parameter: parameters of debugger rules need --debug")

    def _check_own(self) -> None:
        """Check the rules' names; with custom rules the container accepts any name."""
        known = {**DEBUG_RULES, **{name: RuleSpec(name, "", {}) for name in self.own}}
        lower = {"auto", "none", *(name.lower() for name in known)}
        for name in self.rules if self.rules_file else ():
            if name.lower() not in lower:
                try:
                    parse_rules(known, [name])
                except RuleError as error:
                    raise UserError(f"--rules: {error}") from None


def profiler_rules(parameters: Mapping[str, Any]) -> tuple[RuleRequest, ...]:
    """Every profiler rule, with its parameters from `parameters`.

    Raises:
        UserError: a parameter is unknown, or a value is invalid.
    """
    given = {name: value for name, value in parameters.items() if is_profiler_parameter(name)}
    try:
        return parse_rules(PROFILER_RULES, ["auto"], given)
    except RuleError as error:
        raise UserError(str(error)) from None


def is_profiler_parameter(name: str) -> bool:
    """Whether `<Rule>_<parameter>` is a parameter of a profiler rule."""
    return name.partition("_")[0].lower() in {rule.lower() for rule in PROFILER_RULES}


def split_names(given: Iterable[str]) -> tuple[str, ...]:
    """Split comma-separated names."""
    return tuple(name.strip() for word in given for name in word.split(",") if name.strip())


def _typed(value: str) -> float | bool | str | None:
    """A number, a boolean or None parsed from text; any other text unchanged."""
    try:
        found = json.loads(value.lower().replace("none", "null"))
    except ValueError:
        return value
    return found if isinstance(found, float | int | bool) or found is None else value
