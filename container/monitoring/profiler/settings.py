"""How a job is profiled: by SageMaker's `profilerconfig.json`, else by hyperparameters.

SageMaker writes the file where a request has a `ProfilerConfig`. Its keys count in any
capitalisation, as smdebug reads them.
"""

import ast
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.environment import DEFAULT_BASE, in_tree
from container.errors import BerthError
from container.files.json_files import read_object
from container.monitoring.requested import profiler_file

INTERVALS = (100, 200, 500, 1000, 5000, 60_000)
"""Milliseconds that SageMaker's API takes."""
ROTATE_BYTES = 10 * 2**20
"""smdebug's default size at which a file of events ends."""
ROTATE_SECONDS = 60.0
"""smdebug's default age at which it ends."""

_HAD = {
    "localpath",
    "rotatemaxfilesizeinbytes",
    "rotatefilecloseintervalinseconds",
    "detailedprofilingconfig",
    # How often smdebug tries to open a file; ours is opened, or a line says why not.
    "fileopenfailthreshold",
    # Every step's wait for data is recorded, so the requested ones are.
    "dataloaderprofilingconfig",
}
"""What of ProfilingParameters is followed; the rest is named once."""


class ProfilerError(BerthError):
    """The profiler's configuration is invalid."""


@dataclass(frozen=True)
class ProfilerSettings:
    """What is recorded, and where.

    Attributes:
        root: the profiler's folder.
        interval: seconds between two samples of the machine's use.
        steps: training steps, from 0, whose operators torch.profiler records; may be empty.
        rotate_bytes: a file of events ends when it is larger.
        rotate_seconds: or has been open for longer.
    """

    root: Path
    interval: float
    steps: range
    rotate_bytes: int = ROTATE_BYTES
    rotate_seconds: float = ROTATE_SECONDS

    @classmethod
    def read(
        cls,
        base: Path,
        *,
        profile: bool | None,
        interval_ms: int,
        steps: str,
        say: Callable[[str], None],
    ) -> "ProfilerSettings | None":
        """None where nothing is to be profiled.

        Args:
            base: the root of SageMaker's tree.
            profile: True or False as the user set it; None to do what `profilerconfig.json` says.
            interval_ms, steps: the hyperparameters `profile_interval` and `profile_steps`, used
                where the file says nothing.
            say: prints once what the file requests and this profiler does not have.

        Raises:
            ProfilerError: the file is malformed.
        """
        if profile is False:
            return None
        chosen = cls(base / "output" / "data" / "profiler", interval_ms / 1000, _steps(steps))
        path = profiler_file(base)
        file = _Section(path, "", read_object(path, ProfilerError)) if path.exists() else None
        if file is None or file.flag("DisableProfiler"):
            return chosen if profile else None
        parameters = file.section("ProfilingParameters")
        missing = [parameters.names[key] for key in parameters.values if key not in _HAD]
        if missing:
            say(f"{path}: the profiler does not have {', '.join(missing)} and goes on without")
        return cls(
            in_tree(base, parameters.text("LocalPath", f"{DEFAULT_BASE}/output/profiler")),
            file.interval(interval_ms),
            _detailed(parameters, chosen.steps, say),
            int(parameters.positive("RotateMaxFileSizeInBytes", ROTATE_BYTES)),
            parameters.positive("RotateFileCloseIntervalInSeconds", ROTATE_SECONDS),
        )


class _Section:
    """An object of the file, by lower-cased key, with errors that name the field."""

    def __init__(self, path: Path, name: str, found: Mapping[str, Any]) -> None:
        self._path, self._name = path, name
        self.values = {key.lower(): value for key, value in found.items() if value is not None}
        self.names = {key.lower(): key for key in found}

    def has(self, key: str) -> bool:
        return key.lower() in self.values

    def wrong(self, key: str, expected: str) -> ProfilerError:
        found = self.values[key.lower()]
        return ProfilerError(
            f"{self._path}: {self._name}{key}: expected {expected}, found {found!r}"
        )

    def flag(self, key: str) -> bool:
        found = self.values.get(key.lower(), False)
        words = {"true": True, "false": False}
        if isinstance(found, str) and found.lower() in words:
            return words[found.lower()]
        if not isinstance(found, bool):
            raise self.wrong(key, "true or false")
        return found

    def text(self, key: str, default: str) -> str:
        found = self.values.get(key.lower(), default)
        if not isinstance(found, str) or not found:
            raise self.wrong(key, "a path")
        return found

    def number(self, key: str, default: float) -> float:
        """A number, or the text of one, as SageMaker's SDK writes parameters."""
        found = self.values.get(key.lower(), default)
        try:
            return float("none" if isinstance(found, bool) else found)
        except (TypeError, ValueError):
            raise self.wrong(key, "a number") from None

    def positive(self, key: str, default: float) -> float:
        found = self.number(key, default)
        if not 0 < found < float("inf"):
            raise self.wrong(key, "a number above 0")
        return found

    def whole(self, key: str, default: int) -> int:
        found = self.number(key, default)
        if not (0 <= found < float("inf") and found.is_integer()):
            raise self.wrong(key, "a whole number, at least 0")
        return int(found)

    def interval(self, default: float) -> float:
        """Seconds between two samples; the default is milliseconds."""
        key = "ProfilingIntervalInMilliseconds"
        found = self.number(key, default)
        if key.lower() in self.values and found not in INTERVALS:
            raise self.wrong(key, f"one of {INTERVALS}")
        return found / 1000

    def section(self, key: str) -> "_Section":
        """An object within, or the text of one."""
        found = self.values.get(key.lower(), {})
        if isinstance(found, str):
            found = _object(found)
        if not isinstance(found, dict):
            raise self.wrong(key, "an object")
        return _Section(self._path, f"{self._name}{key}.", found)


def _object(text: str) -> Any:
    """JSON, or what SageMaker's SDK writes for it: a Python literal, as smdebug evaluates it."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text.strip() or "{}")
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def _steps(text: str) -> range:
    """`10-12`, both included; `10`; `none`."""
    if text in ("", "none"):
        return range(0)
    first, _, last = text.partition("-")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise ProfilerError(
            f"profile_steps: expected steps such as 10-12, or none, found {text!r}"
        ) from None


def _detailed(parameters: _Section, otherwise: range, say: Callable[[str], None]) -> range:
    """Steps of smdebug's detailed profiling: NumSteps of them (1) from StartStep (0)."""
    detailed = parameters.section("DetailedProfilingConfig")
    if detailed.has("StartStep") or detailed.has("NumSteps"):
        first = detailed.whole("StartStep", 0)
        return range(first, first + detailed.whole("NumSteps", 1))
    if detailed.values:
        say(
            "DetailedProfilingConfig: the profiler chooses by StartStep and NumSteps, not "
            f"{', '.join(detailed.names.values())}; it takes "
            + (f"steps {otherwise.start} to {otherwise.stop - 1}" if otherwise else "none")
        )
    return otherwise


class ConfigFile:
    """`profilerconfig.json` while a job runs: SageMaker rewrites it (UpdateTrainingJob).

    How often to sample, and whether, as the file says once it has changed.

    Args:
        path: the file; it need not be there.
        interval: seconds between two samples, until the file says otherwise.
        say: prints what changed.

    Attributes:
        interval: seconds between two samples.
        off: whether nothing is to be sampled.
    """

    def __init__(self, path: Path | None, interval: float, say: Callable[[str], None]) -> None:
        self.interval, self.off = interval, False
        self._path, self._say = path, say
        self._text = self._read()

    def changed(self) -> bool:
        """Whether the file asks for something else than when it was last looked at."""
        text = self._read()
        if self._path is None or text is None or text == self._text:
            return False
        self._text = text
        try:
            file = _Section(self._path, "", json.loads(text))
            found = file.interval(1000 * self.interval), file.flag("DisableProfiler")
        except ProfilerError as error:
            self._say(f"the profiler goes on as before: {error}")
            return False
        except (ValueError, AttributeError, RecursionError):
            self._say(f"the profiler goes on as before: {self._path} is no profiler configuration")
            return False
        if found == (self.interval, self.off):
            return False
        self.interval, self.off = found
        self._say(
            "profiler: the machine's use is not recorded from here on; the steps' phases are"
            if self.off
            else f"profiler: the machine's use every {1000 * self.interval:g} ms from here on"
        )
        return True

    def _read(self) -> str | None:
        try:
            return None if self._path is None else self._path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError):
            return None
