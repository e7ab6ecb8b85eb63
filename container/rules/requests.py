"""Requests for rules: their names, parameters and defaults, parsed from text.

`container.monitoring` implements the rules. This parser also runs on the user's machine, so a
misspelt rule is refused before a job is created.
Imports nothing but the standard library.
"""

import contextlib
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from container.errors import BerthError

Kind = Literal["number", "count", "flag", "text"]

COMMON = ("rule_to_invoke", "action_json", "base_trial_path", "other_trials_paths")
"""Keys that SageMaker's SDK adds to a rule's parameters."""

OTHER_TRIAL = re.compile(r"other_trial_(\d+)")
"""The numbered parameters that SageMaker's SDK makes of `other_trials_s3_input_paths`."""

ELSEWHERE = {
    "CreateXgboostReport": "XGBoost",
    "FeatureImportanceOverweight": "XGBoost",
    "NLPSequenceRatio": "sequences of words",
    "TreeDepth": "XGBoost",
}
"""SageMaker's rules that do not apply to image classifiers, and what they apply to."""

NOTHING = ("", "none", "null")
"""Texts that mean no value: the SDK sends `str(None)`."""

TRUE, FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")
"""Texts of a flag, the same as in smdebug."""


class RuleError(BerthError):
    """A rule or one of its parameters is unknown, or a value is invalid."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a rule.

    Attributes:
        kind: number (float), count (int), flag (bool) or text (str).
        default: SageMaker's documented default; None without one.
        required: whether the rule cannot run without it.
        modes: the accepted modes, as `TRAIN` or `ModeKeys.TRAIN` in any capitalisation; empty for
            any text.
    """

    kind: Kind
    default: float | int | bool | str | None = None
    required: bool = False
    modes: tuple[str, ...] = ()

    def read(self, rule: str, name: str, given: Any) -> float | int | bool | str | None:
        """Parse a value or its text; None for a text that means no value.

        Raises:
            RuleError: the value is invalid.
        """
        found = given
        if isinstance(given, str):
            text = given.strip().lower()
            found = None if text in NOTHING else self._of(text, given)
        if found is None and not self.required:
            return None
        if self.modes:
            return self._mode(rule, name, found)
        number = isinstance(found, int | float) and not isinstance(found, bool)
        if self.kind == "text" and isinstance(found, str):
            if name.endswith("regex"):
                _check_expression(rule, name, found)
            return found
        if self.kind == "flag" and isinstance(found, bool):
            return found
        if self.kind == "count" and number and float(found).is_integer():
            return int(found)
        if self.kind == "number" and number and math.isfinite(found):
            return float(found)
        words = {"number": "a number", "count": "a whole number", "flag": "true or false"}
        raise RuleError(
            f"rule {rule}: parameter {name!r}: expected {words.get(self.kind, 'text')}, "
            f"found {given!r}"
        )

    def _of(self, text: str, given: str) -> float | bool | str:
        """Convert a text to the parameter's type; returns the text if that fails."""
        if self.kind == "flag" and text in (*TRUE, *FALSE):
            return text in TRUE
        if self.kind in ("number", "count"):
            with contextlib.suppress(ValueError):
                return float(text)
        return given

    def _mode(self, rule: str, name: str, found: Any) -> str:
        mode = str(found).strip().rpartition(".")[2].upper()
        if mode not in self.modes:
            raise RuleError(
                f"rule {rule}: parameter {name!r}: expected one of {', '.join(self.modes)}, "
                f"found {found!r}"
            )
        return mode


@dataclass(frozen=True)
class RuleSpec:
    """A rule in a catalogue.

    Attributes:
        name: SageMaker's name.
        watches: what it detects, in a few words.
        parameters: its parameters by name.
        collections: the collections of tensors it reads (debugger rules).
        in_auto: whether `auto` includes it; impossible with a required parameter.
        one_of: groups of parameters, of which at least one must be given each.
        runs_others: whether it runs the other rules of its catalogue and accepts their parameters
            as `<Rule>_<parameter>`.
    """

    name: str
    watches: str
    parameters: Mapping[str, Parameter]
    collections: tuple[str, ...] = ()
    in_auto: bool = True
    one_of: tuple[tuple[str, ...], ...] = ()
    runs_others: bool = False


@dataclass(frozen=True)
class RuleRequest:
    """A rule to evaluate.

    Attributes:
        rule: the rule's name; for a custom rule, its class in the user's file.
        name: the RuleConfigurationName of its status.
        parameters: every parameter of the rule with its value, defaults included.
        stop: whether training ends when it fires (the StopTraining action).
        unserved: the names of other requested actions, which are not performed.
        source: S3 URI of a custom rule's file, if SageMaker's request has one.
    """

    rule: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    stop: bool = False
    source: str | None = None
    unserved: tuple[str, ...] = ()

    @property
    def texts(self) -> dict[str, str]:
        """The parameters as strings for SageMaker's requests, without those that are None."""
        return {name: str(value) for name, value in self.parameters.items() if value is not None}


Catalogue = Mapping[str, RuleSpec]


def _check_expression(rule: str, name: str, found: str) -> None:
    try:
        re.compile(found)
    except re.error as error:
        raise RuleError(
            f"rule {rule}: parameter {name!r}: expected a regular expression, found {found!r}: "
            f"{error}"
        ) from None


def parse_rules(
    catalogue: Catalogue,
    names: Iterable[str],
    overrides: Mapping[str, Any] | None = None,
    stop_on: Iterable[str] = (),
    *,
    own: bool = False,
) -> tuple[RuleRequest, ...]:
    """Rules by name, in any capitalisation, with overrides as `<Rule>_<parameter>`.

    Args:
        names: rules, or `auto` for all that need no parameter.
        overrides: values by `<Rule>_<parameter>`, in any capitalisation. Those of rules not in
            `names` go to the rule that runs others, if that is in `names`.
        stop_on: rules that end training when they fire.
        own: whether names not in the catalogue are custom rules.

    Raises:
        RuleError: a rule or parameter is unknown (names similar ones), a value is invalid, or a
            required parameter is missing.
    """
    chosen: list[str] = []
    for given in names:
        found = [s.name for s in catalogue.values() if s.in_auto] if given.lower() == "auto" else []
        for name in found or [_known(catalogue, given, own=own)]:
            if name not in chosen:
                chosen.append(name)
    values: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    runners = (name for name in chosen if name in catalogue and catalogue[name].runs_others)
    runner = next(runners, None)
    for key, value in (overrides or {}).items():
        if runner is not None and _rule_of(key, chosen) is None:
            values[runner][key] = value
            continue
        rule, parameter = _split(key, chosen)
        values[rule][parameter] = value
    stopping = [_among(given, chosen) for given in stop_on]
    return tuple(
        RuleRequest(name, name, _parameters(catalogue, name, values[name]), name in stopping)
        for name in chosen
    )


def from_configurations(
    catalogue: Catalogue, configurations: Iterable[Mapping[str, Any]], field_name: str
) -> tuple[RuleRequest, ...]:
    """The rules of a request's `DebugRuleConfigurations` or `ProfilerRuleConfigurations`.

    Raises:
        RuleError: as `parse_rules`; also a configuration without a rule.
    """
    requests = []
    for position, configuration in enumerate(configurations):
        name = str(configuration.get("RuleConfigurationName") or "")
        given = dict(configuration.get("RuleParameters") or {})
        if not name or "rule_to_invoke" not in given:
            raise RuleError(
                f"{field_name}[{position}]: expected a RuleConfigurationName and, among its "
                f"RuleParameters, rule_to_invoke; found {name!r} with {sorted(given)}"
            )
        source = given.pop("source_s3_uri", None) or None
        rule = _known(catalogue, str(given["rule_to_invoke"]), own=source is not None)
        actions = _actions(rule, given.get("action_json"))
        others = _other_trials(given)
        parameters = {
            key: value
            for key, value in given.items()
            if key not in COMMON and not OTHER_TRIAL.fullmatch(key)
        }
        if others and (source or "other_trials" in catalogue[rule].parameters):
            parameters["other_trials"] = others
        elif others:
            raise RuleError(f"rule {rule}: found other trials {others}, expected none")
        requests.append(
            RuleRequest(
                rule,
                name,
                _parameters(catalogue, rule, parameters),
                STOP in actions,
                source,
                tuple(action for action in actions if action != STOP),
            )
        )
    return tuple(requests)


STOP = "stoptraining"
"""The action that ends training, as SageMaker's SDK writes it."""


def _actions(rule: str, given: Any) -> list[str]:
    """The names of the actions in an `action_json`, which is one object or a list of them.

    SageMaker's SDK writes each quotation mark with a backslash before it.

    Raises:
        RuleError: it is not JSON of actions.
    """
    if given is None or str(given).strip().lower() in NOTHING:
        return []
    try:
        actions = json.loads(str(given).replace('\\"', '"'))
        every = actions if isinstance(actions, list) else [actions]
        return [str(action["name"]).strip().lower() for action in every]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RuleError(
            f"rule {rule}: action_json: expected the JSON of actions, each with a name, "
            f"found {given!r}"
        ) from None


def _other_trials(given: Mapping[str, Any]) -> str:
    """The locations of other runs' tensors, separated by commas."""
    numbered = {
        int(match[1]): str(value)
        for key, value in given.items()
        if (match := OTHER_TRIAL.fullmatch(key))
    }
    places = [str(given.get("other_trials_paths") or ""), *(numbered[n] for n in sorted(numbered))]
    return ",".join(place for place in places if place.strip().lower() not in NOTHING)


def _parameters(catalogue: Catalogue, rule: str, given: Mapping[str, Any]) -> dict[str, Any]:
    spec = catalogue.get(rule)
    if spec is None:
        return dict(given)  # a custom rule's own parameters
    values = {name: parameter.default for name, parameter in spec.parameters.items()}
    names = {_normalised(name): name for name in spec.parameters}
    for key, value in given.items():
        name = names.get(_normalised(key))
        if name is None and spec.runs_others:
            part, wanted = _of_another(catalogue, rule, key)
            found = catalogue[part].parameters[wanted].read(part, wanted, value)
            values[f"{part}_{wanted}"] = found
            continue
        if name is None:
            raise RuleError(
                f"rule {rule}: unknown parameter {key!r}: {hint(key, list(spec.parameters))}"
            )
        meant = spec.parameters[name].read(rule, name, value)
        values[name] = spec.parameters[name].default if meant is None else meant
    for name, parameter in spec.parameters.items():
        if parameter.required and values[name] is None:
            raise RuleError(f"rule {rule}: parameter {name!r} is required; give {rule}_{name}")
    for group in spec.one_of:
        if all(values[name] is None for name in group):
            raise RuleError(f"rule {rule}: one of the parameters {' and '.join(group)} is required")
    return values


def _of_another(catalogue: Catalogue, rule: str, key: str) -> tuple[str, str]:
    """The rule and parameter in `<Rule>_<parameter>`, for a rule that runs others."""
    part = _rule_of(key, catalogue)
    if part is None or part == rule:
        others = [name for name in catalogue if name != rule]
        raise RuleError(
            f"rule {rule}: unknown parameter {key!r}: expected <Rule>_<parameter>: "
            f"{hint(key.partition('_')[0], others)}"
        )
    wanted = key[len(part) + 1 :]
    known = {_normalised(name): name for name in catalogue[part].parameters}
    if _normalised(wanted) not in known:
        raise RuleError(
            f"rule {rule}: unknown parameter {wanted!r} of {part}: "
            f"{hint(wanted, list(known.values()))}"
        )
    return part, known[_normalised(wanted)]


def _normalised(name: str) -> str:
    """A parameter's name without case, underscores and hyphens, in which spellings differ."""
    return name.lower().replace("_", "").replace("-", "")


def _rule_of(key: str, rules: Iterable[str]) -> str | None:
    """The rule whose `<Rule>_` a key begins with."""
    fitting = [rule for rule in rules if key.lower().startswith(f"{rule.lower()}_")]
    return max(fitting, key=len, default=None)


def _known(catalogue: Catalogue, given: str, *, own: bool) -> str:
    exact = {name.lower(): name for name in catalogue}.get(given.strip().lower())
    if exact is not None:
        return exact
    if own:
        return given.strip()
    other = {name.lower(): kind for name, kind in ELSEWHERE.items()}.get(given.strip().lower())
    if other is not None:
        raise RuleError(
            f"rule {given.strip()!r} is for {other} and does not apply to image classifiers: "
            "leave it out"
        )
    raise RuleError(f"unknown rule {given.strip()!r}: {hint(given.strip(), list(catalogue))}")


def _split(key: str, chosen: list[str]) -> tuple[str, str]:
    """Split `<Rule>_<parameter>` into its two parts."""
    rule = _rule_of(key, chosen)
    if rule is not None:
        return rule, key[len(rule) + 1 :]
    raise RuleError(
        f"rule parameter {key!r}: expected <Rule>_<parameter> of a rule that is evaluated: "
        f"{hint(key.partition('_')[0], chosen)}"
    )


def _among(given: str, chosen: list[str]) -> str:
    for name in chosen:
        if name.lower() == given.strip().lower():
            return name
    raise RuleError(
        f"rule {given.strip()!r} is to stop training but is not evaluated: "
        f"{hint(given.strip(), chosen)}"
    )


def hint(given: str, known: Iterable[str]) -> str:
    """The nearest of the known names, or all of them: `did you mean 'Overfit'?`."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), by_lower, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(repr(by_lower[name]) for name in near) + "?"
    return "known are " + (", ".join(sorted(by_lower.values())) or "none")
