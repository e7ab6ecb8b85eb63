"""Crash-safe checkpoints: written to a temporary file, verified by digest, never pickled.

A checkpoint is two files: `checkpoint-<step>.safetensors` with every tensor and, written after it,
`checkpoint-<step>.json` with the counters and the digest of the first. A pair whose digest does not
match is ignored, so a kill, a full disk or a partial sync to S3 costs at most one checkpoint.
`best.*` holds the best weights so far in the same format.
"""

import errno
import hashlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from container.errors import CheckpointError, TrainingError, first_line
from container.files import json_files
from container.files.json_files import to_json
from container.training.state_dicts import save_state

KEEP = 2
"""Checkpoints kept: the last, and the previous one in case the last is corrupt."""


class Interrupted(Exception):
    """The job received a stop signal and wrote a checkpoint."""


class StopSignal:
    """Records SIGTERM or SIGINT, so that the training loop stops between two steps."""

    def __init__(self) -> None:
        self.received = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and the counters beside them (JSON values)."""

    tensors: dict[str, Tensor]
    counters: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one job.

    Args:
        path: `/opt/ml/checkpoints`.
        run: values by name that must equal those of the run that wrote a checkpoint.
        say: where messages go.
        defaults: values of `run` to assume where a checkpoint of an older version has none.
    """

    def __init__(
        self,
        path: Path,
        run: Mapping[str, Any],
        say: Callable[[str], None],
        *,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = path
        self._run = json.loads(to_json(run))
        self._say = say
        self._defaults = json.loads(to_json(defaults or {}))

    def save(self, step: int, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> Path:
        """Write a checkpoint and delete all but the last two.

        Raises:
            TrainingError: the disk is full; no partial file is left.
        """
        path = self._write(f"checkpoint-{step:08d}", tensors, counters)
        for old in sorted(self._path.glob("checkpoint-*.json"))[:-KEEP]:
            old.with_suffix(".safetensors").unlink(missing_ok=True)
            old.unlink()
        return path

    def save_best(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Write the best weights so far; raises as `save` does."""
        self._write("best", tensors, counters)

    def load_best(self) -> Checkpoint | None:
        """The best weights; None if there are none or they are corrupt."""
        return self._read(self._path / "best.json")

    def load_last(self) -> Checkpoint | None:
        """The newest intact checkpoint; logs each one that is not.

        Raises:
            CheckpointError: it belongs to a run with other hyperparameters or other data.
        """
        for path in sorted(self._path.glob("checkpoint-*.json"), reverse=True):
            checkpoint = self._read(path)
            if checkpoint is not None:
                return checkpoint
        return None

    def _write(self, name: str, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> Path:
        self._path.mkdir(parents=True, exist_ok=True)
        path = self._path / f"{name}.safetensors"
        with written_aside(path) as aside:
            save_state(tensors, aside)
            digest = _digest(aside)
        stored = {"sha256": digest, "run": self._run, "counters": dict(counters)}
        with written_aside(path.with_suffix(".json")) as aside:
            aside.write_text(to_json(stored, indent=1), encoding="utf-8")
        return path

    def _read(self, path: Path) -> Checkpoint | None:
        weights = path.with_suffix(".safetensors")
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            counters, run, digest = stored["counters"], stored["run"], stored["sha256"]
            if _digest(weights) != digest:
                raise ValueError("its contents do not match its digest")
            tensors = load_file(weights)
        except FileNotFoundError as error:
            if error.filename != str(path):
                self._say(f"checkpoint {weights.name} is missing: trying the previous one")
            return None
        except Exception as error:
            self._say(
                f"checkpoint {weights.name} is corrupt ({first_line(error)}): "
                "trying the previous one"
            )
            return None
        for name, value in self._run.items():
            written = run.get(name, self._defaults.get(name))
            if written != value:
                raise CheckpointError(
                    f"{weights}: written by another run, with {name}={written!r} where this "
                    f"one has {value!r}; give this job an empty checkpoint location"
                )
        return Checkpoint(tensors, counters)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block succeeds.

    Raises:
        TrainingError: the disk is full; the temporary file is removed.
    """
    try:
        with json_files.written_aside(path) as aside:
            yield aside
    except BaseException as error:
        if is_disk_full(error):
            raise disk_full(path) from None
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full; safetensors reports it only in the message."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return True
    return "os error 28" in str(error) or "No space left on device" in str(error)


def disk_full(path: Path) -> TrainingError:
    """The error for a full disk, with the space left."""
    free = shutil.disk_usage(path.parent).free
    return TrainingError(
        f"disk full: {path} could not be written ({free / 1e6:.0f} MB free); "
        "give the job a larger volume"
    )


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's `state_dict` into tensors by name and JSON values by name."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, entry in state["state"].items():
        for name, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                values[f"{index}/{name}"] = value
    return tensors, values


def unflatten_optimizer(
    tensors: Mapping[str, Tensor], values: Mapping[str, Any], groups: list[dict[str, Any]]
) -> dict[str, Any]:
    """The inverse of `flatten_optimizer`, with the parameter groups of a fresh optimizer."""
    state: dict[int, dict[str, Any]] = {}
    prefix = "optimizer/"
    named = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    for key, value in (named | dict(values)).items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
