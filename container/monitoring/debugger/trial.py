"""A job's saved tensors during training: smdebug's trial, opened without waiting and kept small.

Problems of smdebug's reading side, and their workarounds here:

- importing it imports torch where torch is installed, half a gigabyte and many seconds that no
  reader needs: `container.monitoring.debugger.evaluator` hides torch while this module is
  imported;
- `create_trial` waits for ever in a folder without a writer, or for processes that write elsewhere:
  `ready` is checked first, and only the workers found are expected;
- every query of a trial lists the whole index again, and one truncated index file ends the reading:
  `refresh_data` here reads only new files and skips broken ones;
- a truncated value raises protobuf's or struct's errors: here it counts as not saved, which every
  rule has to handle;
- locations of all saved values are kept for ever: here only the last `KEPT_LOCATIONS`;
- at the end of a job it sleeps for two seconds: `finish` here does not;
- a rule that requires a step which is not saved yet waits for it and blocks every other rule: here
  that step is skipped for that rule;
- it reads a collection's tensor names once, though the hook adds to them: `refresh_data` reads them
  again when they change;
- `Rule` requires an action string, which documented custom rules do not pass:
  `accept_documented_rules`.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from smdebug.core.collection_manager import CollectionManager
from smdebug.core.index_reader import LocalIndexReader
from smdebug.core.modes import ModeKeys
from smdebug.core.tensor import StepState
from smdebug.exceptions import (
    SMDebugError,
    StepNotYetAvailable,
    StepUnavailable,
    TensorUnavailableForStep,
)
from smdebug.rules.rule import Rule
from smdebug.trials.local_trial import LocalTrial

KEPT_LOCATIONS = 100_000
"""Locations of values that a trial keeps, about 800 bytes each; older steps are dropped."""
WORKER_SECONDS = 60.0
"""How long to wait for further processes that save tensors, after the first."""
AT_ONCE = 500
"""Index files read by one refresh: rules must evaluate steps before they are dropped."""
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, SMDebugError)
"""Errors of smdebug for JSON that is incomplete or not its own."""
_SETTLED_SECONDS = 1.0
"""A folder's modification time is trusted when it is this old, as file systems round it."""


def ready(folder: Path, patience: float = WORKER_SECONDS) -> bool:
    """Whether a trial can be opened: the processes that save tensors have described them.

    Args:
        folder: smdebug's output folder; need not exist.
        patience: seconds to wait after the first description for the others, which may be written
            on other machines.
    """
    described = _descriptions(folder)
    if not described:
        return False
    try:
        workers = CollectionManager.load(str(described[0])).get_num_workers()
        waited = time.time() - described[0].stat().st_mtime
    except _BROKEN:
        return False
    return len(described) >= int(workers) or waited >= patience


def _descriptions(folder: Path) -> list[Path]:
    return sorted((folder / "collections" / "000000000").glob("*collections.json"))


def ended(folder: Path) -> bool:
    """Whether the job has written its end marker."""
    return (folder / "training_job_end.ts").exists()


def accept_documented_rules() -> None:
    """Accept `super().__init__(base_trial)`, as in SageMaker's guide to custom rules."""
    Rule.__init__.__defaults__ = ("", None)


class GrowingTrial(LocalTrial):  # type: ignore[misc]  # smdebug has no types
    """The tensors in a folder, read a little more by every `refresh_data`.

    It never refreshes by itself, so that all rules see the same steps during one poll.

    Args:
        folder: smdebug's output folder; `ready` must be true of it.

    Attributes:
        waiting: saved steps (of all processes) that were not read yet.
        unreadable: files that could not be read, whose steps are missing.
    """

    index_reader: Any
    last_complete_step: int
    num_workers: int

    def __init__(self, folder: Path) -> None:
        self.waiting = 0
        self.unreadable: set[str] = set()
        self._folder = folder
        self._seen: dict[str, set[str]] = {}
        self._scanned: dict[str, int] = {}
        self._saved_at: dict[int, float] = {}
        self._locations: dict[int, int] = {}
        self._described = 0
        super().__init__(name=folder.name, dirname=str(folder))

    def time_of(self, step: int) -> float:
        """When a global step was saved, in seconds since 1970; the current time if unknown."""
        return self._saved_at.get(step) or time.time()

    def maybe_refresh(self, name: str | None = None) -> None:
        """Do nothing: smdebug calls it at every query, but the evaluator refreshes."""

    def wait_for_steps(self, required_steps: Any, mode: ModeKeys = ModeKeys.GLOBAL) -> None:
        """Check that the steps exist, without waiting.

        Raises:
            StepUnavailable: a step was not saved, or was dropped.
            StepNotYetAvailable: a step may still be saved.
        """
        for step in required_steps:
            state = self.has_passed_step(step, mode)
            if state is StepState.UNAVAILABLE:
                raise StepUnavailable(step, mode)
            if state is StepState.NOT_YET_AVAILABLE:
                raise StepNotYetAvailable(step, mode)

    def refresh_data(self) -> None:
        """Read steps saved since the last call, then retry broken files."""
        self._read_descriptions()
        found = self._new_files()
        new = [file for file in found if file.path not in self.unreadable]
        broken = [file for file in found if file.path in self.unreadable]
        for file in new[:AT_ONCE] + broken[:AT_ONCE]:
            self._read_index(file)
        self.waiting = max(0, len(new) - AT_ONCE)

    def finish(self) -> None:
        """After the job's end, treat steps that not every process saved as complete."""
        self.loaded_all_steps = True
        self.last_complete_step = max(self._global_to_mode, default=self.last_complete_step)

    def _load_collections(self) -> None:
        """Load the collections without waiting; smdebug calls it as it opens the trial."""
        self.index_reader = _TolerantReader(str(self._folder))
        self._read_descriptions()

    def _read_descriptions(self) -> None:
        """Read the collections if they have changed; ignores a broken file."""
        files = _descriptions(self._folder)
        with contextlib.suppress(*_BROKEN, IndexError):
            changed = files[0].stat().st_mtime_ns
            if changed == self._described:
                return
            self._read_collections([str(file) for file in files])
            self._described = changed
            self.num_workers = min(int(self.num_workers), len(files))
            self.worker_set = {file.name.removesuffix("_collections.json") for file in files}

    def _new_files(self) -> list["os.DirEntry[str]"]:
        """Index files not read yet, by step; folders that did not change are not listed."""
        found: list[os.DirEntry[str]] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder / "index") as folders:
            for folder in folders:
                if not folder.is_dir():
                    continue
                now, changed = time.time_ns(), folder.stat().st_mtime_ns
                if self._scanned.get(folder.name) == changed:
                    continue
                seen = self._seen.setdefault(folder.name, set())
                with os.scandir(folder.path) as files:
                    new = [f for f in files if f.name.endswith(".json") and f.name not in seen]
                found += new
                if not new and now - changed > _SETTLED_SECONDS * 1e9:
                    self._scanned[folder.name] = changed
        return sorted(found, key=lambda file: file.name)

    def _read_index(self, file: os.DirEntry[str]) -> None:
        number, _, worker = file.name.removesuffix(".json").partition("_")
        try:
            step = int(number)
            found = self.index_reader._update_tensors_from_json(
                {}, step, Path(file.path).read_bytes(), self.path, worker
            )
            saved_at = file.stat().st_mtime
        except _BROKEN:
            self.unreadable.add(file.path)  # it may still be copied: read again later
            return
        self.unreadable.discard(file.path)
        self._seen[Path(file.path).parent.name].add(file.name)
        self._load_tensors_from_index_tensors(found)
        self._saved_at.setdefault(step, saved_at)
        self._locations[step] = self._locations.get(step, 0) + len(found)

    def forget(self) -> None:
        """Drop the oldest steps beyond `KEPT_LOCATIONS`, never the last one."""
        total = sum(self._locations.values())
        for step in sorted(self._locations)[:-1]:
            if total <= KEPT_LOCATIONS:
                return
            total -= self._locations.pop(step)
            mode, mode_step = self._global_to_mode.pop(step)
            self._mode_to_global.get(mode, {}).pop(mode_step, None)
            self.workers_for_global_step.pop(step, None)
            self._saved_at.pop(step, None)
            for name in self.global_step_to_tensors_map.pop(step, ()):
                modes = self._tensors[name]._mode_steps
                if mode in modes:
                    modes[mode]._steps.pop(mode_step, None)


class _TolerantReader(LocalIndexReader):  # type: ignore[misc]
    """Reads values; a missing or truncated one counts as not saved."""

    def fetch_tensor_value(self, tensor_location: Any) -> Any:
        try:
            return super().fetch_tensor_value(tensor_location)
        except TensorUnavailableForStep:
            raise
        except Exception as error:
            raise TensorUnavailableForStep(
                tensor_location.tensorname, tensor_location.mode_step, tensor_location.mode
            ) from error

    def event_file_present_loop(self, tensor_location: Any) -> None:
        """Do not wait: an index is written after its values, so missing values stay missing."""
        raise TensorUnavailableForStep(
            tensor_location.tensorname, tensor_location.mode_step, tensor_location.mode
        )
