"""The hook's settings, from SageMaker's files or from hyperparameters.

They have the format of `debughookconfig.json`, so smdebug's parser reads them. Values that would
make that parser fail during training are refused before it starts.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.environment import in_tree
from container.errors import BerthError
from container.files.json_files import read_object
from container.monitoring.requested import has_hook_file, hook_file, is_debugged
from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleRequest

ACTIVATIONS = {
    "ReLU": "relu",
    "ReLU6": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "GELU": "gelu",
    "SiLU": "silu",
    "ELU": "elu",
    "SELU": "selu",
    "Mish": "mish",
    "LeakyReLU": "leakyrelu",
    "PReLU": "prelu",
    "Hardswish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "Hardtanh": "hardtanh",
    "Softplus": "softplus",
}
"""torch's activation layers, and the word in the names of their tensors."""

COLLECTIONS: Mapping[str, str | None] = {
    "losses": None,
    "weights": None,
    "biases": None,
    "gradients": None,
    "all": ".*",
    "inputs": "^input_images$",
    "labels": "^labels$",
    "predictions": "^predictions$",
    "activations": f"({'|'.join(dict.fromkeys(ACTIVATIONS.values()))})_output",
    "relu_input": ".*relu_input",
    "relu_output": ".*relu_output",
    "tanh_input": ".*tanh_input",
    "tanh_output": ".*tanh_output",
    "sigmoid_input": ".*sigmoid_input",
    "sigmoid_output": ".*sigmoid_output",
}
"""Collections that need no regular expression; smdebug defines those of the first four."""

EVAL_DENSITY = 50
"""Validation losses are saved this many times as often as the rest by default: a validation pass is
short, and one value in 500 would leave most passes without any."""

LAYER_BYTES = 4 * 2**20
"""Of a layer's input or output, the first samples of the batch that fit into this are saved where a
hyperparameter or a rule requests it: all of a ResNet's at 224 pixels would be gigabytes a step, and
its positions are samples enough. What SageMaker's file requests is saved whole."""

_READ_VALIDATION_LOSSES = ("Overfit", "Overtraining")
_MODES = ("", "train.", "eval.", "predict.", "global.")
_WHEN = ("save_interval", "save_steps", "start_step", "end_step")
_SWITCHES = ("save_raw_tensor", "save_shape", "save_histogram", "save_all", "export_tensorboard")
_PLAIN = ("min", "max", "mean", "std", "variance", "sum", "prod", "l1_norm", "l2_norm")
_REDUCTIONS = (*_PLAIN, *(f"abs_{name}" for name in _PLAIN))
_TRUE, _FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")


class HookSettingsError(BerthError):
    """A debugger configuration is invalid."""


def is_wanted(base: Path, debug: bool | None) -> bool:
    """Whether a job saves tensors.

    Args:
        base: root of the job's tree.
        debug: the hyperparameter; None enables saving if there is a `debughookconfig.json`.
            `USE_SMDEBUG=0` disables saving in any case.
    """
    if os.environ.get("USE_SMDEBUG", "").strip().lower() in _FALSE:
        return False
    return is_debugged(base, debug)


@dataclass(frozen=True)
class HookSettings:
    """What to save.

    Attributes:
        path: the folder for tensors.
        tensorboard: the folder for TensorBoard summaries; None to write none.
        configuration: `HookParameters` and `CollectionConfigurations` as in `debughookconfig.json`,
            checked; each collection has a regular expression or is one smdebug knows.
        source: the file this comes from, or "hyperparameters".
        all_ranks: whether every rank saves its own tensors; otherwise only rank 0.
        layer_bytes: bytes to save of a layer's input or output; None for all.
    """

    path: Path
    tensorboard: Path | None
    configuration: Mapping[str, Any]
    source: str = "hyperparameters"
    all_ranks: bool = False
    layer_bytes: int | None = LAYER_BYTES

    @classmethod
    def read(
        cls,
        base: Path,
        *,
        save_interval: int = 500,
        collections: Sequence[str] = ("losses",),
        tensorboard: bool = False,
        rules: Sequence[RuleRequest] = (),
        all_ranks: bool = False,
    ) -> "HookSettings":
        """Settings from `input/config/debughookconfig.json` if there is one, else the arguments.

        The file (or the one `SMDEBUG_CONFIG_FILE_PATH` names) lists the collections to save; the
        arguments give what it leaves out, the interval and TensorBoard. In either case the
        collections that `rules` read are added.

        Args:
            base: root of the job's tree; paths under `/opt/ml` in the files are taken to be in it.
            save_interval: every how many steps of a mode tensors are saved.
            collections: names among `COLLECTIONS`; used without a file.
            tensorboard: whether to write summaries.
            rules: the rules that will be evaluated.
            all_ranks: whether every rank saves tensors.

        Raises:
            HookSettingsError: a file is not what it should be, or a collection is unknown; one line
                that names the file and the field.
        """
        if has_hook_file(base):
            file = hook_file(base)
            source, given = str(file), _read(file)
        else:
            names = dict.fromkeys(("losses", *collections))
            source = "hyperparameters"
            given = {"CollectionConfigurations": [{"CollectionName": name} for name in names]}
        checked = _HookFields(source).check(given)
        hook, configurations = checked["HookParameters"], checked["CollectionConfigurations"]
        if not any(name in hook for name in ("save_interval", "save_steps")):
            hook["save_interval"] = str(save_interval)
        _add_rules(configurations, rules)
        if source == "hyperparameters" or any(map(_reads_validation_losses, rules)):
            _keep_validation_losses(configurations, hook)
        local = checked.get("LocalPath")
        return cls(
            path=in_tree(base, local) if local else base / "output" / "tensors",
            tensorboard=_tensorboard(base, tensorboard, hook),
            configuration={
                "HookParameters": hook,
                "CollectionConfigurations": [
                    {"CollectionName": name, "CollectionParameters": parameters}
                    for name, parameters in configurations.items()
                ],
            },
            source=source,
            all_ranks=all_ranks or hook.get("include_workers") == "all",
            layer_bytes=LAYER_BYTES if source == "hyperparameters" else None,
        )


def _add_rules(configurations: dict[str, dict[str, Any]], rules: Iterable[RuleRequest]) -> None:
    """Add the collections that rules read, and one for each of their regular expressions."""
    for request in rules:
        spec = DEBUG_RULES.get(request.rule)
        if spec is None:
            continue
        named = str(request.parameters.get("collection_names") or "")
        for name in (*spec.collections, *filter(None, map(str.strip, named.split(",")))):
            if name in COLLECTIONS:
                _add(configurations, name, COLLECTIONS[name])
        for parameter, declared in spec.parameters.items():
            given = request.parameters.get(parameter)
            if parameter.endswith("regex") and given and given != declared.default:
                _add(configurations, f"{request.name}_{parameter}", str(given))


def _add(configurations: dict[str, dict[str, Any]], name: str, regex: str | None) -> None:
    parameters = configurations.setdefault(name, {})
    if regex is not None:
        parameters.setdefault("include_regex", regex)


def _reads_validation_losses(request: RuleRequest) -> bool:
    mode = str(request.parameters.get("mode") or "").upper()
    return request.rule in _READ_VALIDATION_LOSSES or mode == "EVAL"


def _keep_validation_losses(
    configurations: dict[str, dict[str, Any]], hook: Mapping[str, Any]
) -> None:
    losses = configurations.setdefault("losses", {})
    given = (*losses, *(key for key in hook if key.startswith("eval.")))
    if any(key.removeprefix("eval.") in _WHEN for key in given):
        return
    interval = int(hook.get("save_interval", 500))
    losses["eval.save_interval"] = str(max(1, interval // EVAL_DENSITY))


def _tensorboard(base: Path, wanted: bool, hook: Mapping[str, Any]) -> Path | None:
    default = base / "output" / "tensorboard"
    file = Path(
        os.environ.get("TENSORBOARD_CONFIG_FILE_PATH")
        or base / "input" / "config" / "tensorboardoutputconfig.json"
    )
    if file.exists():
        local = _read(file).get("LocalPath")
        if local is not None and not isinstance(local, str):
            raise HookSettingsError(f"{file}: LocalPath: expected a path, found {local!r}")
        return in_tree(base, local) if local else default
    if "tensorboard_dir" in hook:
        return in_tree(base, hook["tensorboard_dir"])
    return default if wanted or hook.get("export_tensorboard") == "true" else None


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        raise HookSettingsError(f"{file}: SMDEBUG_CONFIG_FILE_PATH names it, but it does not exist")
    return read_object(file, HookSettingsError)


class _HookFields:
    """Validates a `debughookconfig.json` and converts its values to smdebug's types."""

    def __init__(self, source: str) -> None:
        self._source = source

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Validate; returns values as strings and collections by name."""
        path = given.get("LocalPath")
        if path is not None and not isinstance(path, str):
            raise self._error("LocalPath", "a path", path)
        listed = given.get("CollectionConfigurations")
        if listed is not None and not isinstance(listed, list):
            raise self._error("CollectionConfigurations", "a list", listed)
        collections: dict[str, dict[str, Any]] = {}
        for position, item in enumerate(listed or []):
            field = f"CollectionConfigurations[{position}]"
            name = item.get("CollectionName") if isinstance(item, dict) else None
            if not isinstance(name, str) or not name.strip():
                raise self._error(field, "an object with a CollectionName", item)
            parameters = self._parameters(
                item.get("CollectionParameters"), f"{field}.CollectionParameters", _COLLECTION_KEYS
            )
            self._complete(name, parameters, field)
            collections.setdefault(name, {}).update(parameters)
        hook = self._parameters(given.get("HookParameters"), "HookParameters", _HOOK_KEYS)
        return {
            "LocalPath": path,
            "HookParameters": hook,
            "CollectionConfigurations": collections,
        }

    def _complete(self, name: str, parameters: dict[str, Any], field: str) -> None:
        if "include_regex" in parameters:
            return
        if name not in COLLECTIONS and name != "default":
            where = "collections" if self._source == "hyperparameters" else f"{field} ({name!r})"
            near = difflib.get_close_matches(name, COLLECTIONS, n=3, cutoff=0.5)
            known = " or ".join(map(repr, near)) if near else ", ".join(COLLECTIONS)
            raise HookSettingsError(
                f"{self._source}: {where}: expected an include_regex, or one of the collections "
                f"that need none: {known}; found {name!r} without one"
            )
        if COLLECTIONS.get(name) is not None:
            parameters["include_regex"] = COLLECTIONS[name]

    def _parameters(self, given: Any, field: str, known: Sequence[str]) -> dict[str, Any]:
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise self._error(field, "an object", given)
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key in known:
                found[key] = self._value(key, value, f"{field}.{key}")
                continue
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
            if near:
                raise HookSettingsError(
                    f"{self._source}: {field}: unknown {key!r}: did you mean {near[0]!r}?"
                )
        if found.get("save_shape") and "reductions" not in found:
            found |= {"reductions": "", "save_raw_tensor": True}
        return found

    def _value(self, key: str, value: Any, field: str) -> Any:
        text = json.dumps(value) if isinstance(value, bool | int | float) else value
        if not isinstance(text, str):
            raise self._error(field, "a string", value)
        name = key.rpartition(".")[2]
        if name in _SWITCHES:
            if text.lower() not in (*_TRUE, *_FALSE):
                raise self._error(field, "true or false", value)
            switched = text.lower() in _TRUE
            return switched if name in ("save_raw_tensor", "save_shape") else str(switched).lower()
        expected, fits = _CHECKS.get(name, ("text", bool))
        if not fits(text):
            raise self._error(field, expected, value)
        return text

    def _error(self, field: str, expected: str, found: Any) -> HookSettingsError:
        shown = json.dumps(found, default=str)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return HookSettingsError(f"{self._source}: {field}: expected {expected}, found {shown}")


def _is_regex(text: str) -> bool:
    try:
        return all(re.compile(part.strip()) for part in text.split(","))
    except re.error:
        return False


def _is_count(text: str) -> bool:
    return text.strip().isdecimal()


_CHECKS: Mapping[str, tuple[str, Callable[[str], bool]]] = {
    "save_interval": (
        "a whole number of steps from 1",
        lambda text: _is_count(text) and int(text) > 0,
    ),
    "start_step": ("a whole number from 0", _is_count),
    "end_step": ("a whole number from 0", _is_count),
    "save_steps": (
        "whole numbers with commas between them",
        lambda text: all(map(_is_count, text.split(","))),
    ),
    "include_regex": ("regular expressions with commas between them", _is_regex),
    "include_workers": ("one or all", lambda text: text in ("one", "all")),
    "reductions": (
        f"some of {', '.join(_REDUCTIONS)}",
        lambda text: all(part.strip() in ("", *_REDUCTIONS) for part in text.split(",")),
    ),
}
_TIMED = tuple(f"{mode}{name}" for mode in _MODES for name in _WHEN)
_SHARED = (*_TIMED, "include_regex", "reductions", "save_raw_tensor", "save_shape")
_HOOK_KEYS = (*_SHARED, "save_all", "include_workers", "export_tensorboard", "tensorboard_dir")
_COLLECTION_KEYS = (*_SHARED, "save_histogram")
