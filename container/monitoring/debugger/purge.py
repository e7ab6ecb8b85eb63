"""Deletes saved steps that a resumed job will train again, like TensorBoard's `purge_step`.

An interrupted run may have saved steps after its last checkpoint. Their files are deleted, and so
are temporary files of a killed process and the end-of-job marker.
"""

import json
from dataclasses import dataclass
from pathlib import Path

_MARKER, _CLAIM = "training_job_end.ts", "claim.smd"


@dataclass(frozen=True)
class _Saved:
    """A saved step: its global number and its number in its mode."""

    index: Path
    events: Path
    mode: str
    step: int
    mode_step: int


def purge_steps(
    folder: Path,
    worker: str,
    first_step: int,
    first_eval_step: int | None,
    *,
    workers: int = 1,
    tensorboard: Path | None = None,
) -> int:
    """Delete a worker's saved steps, beginning with the given ones.

    Args:
        folder: smdebug's output folder; need not exist.
        worker: the worker's name, `worker_0` for rank 0.
        first_step: training steps done so far.
        first_eval_step: validation steps done so far; None to count those in the folder.
        workers: number of workers that save tensors now; the first also deletes files of any
            others, for which readers would wait.
        tensorboard: the folder of this worker's summaries.

    Returns:
        The number of validation steps done so far.
    """
    for stale in (
        folder / _MARKER,
        folder / _CLAIM,
        *(folder / "index").rglob(f"*_{worker}.json.tmp"),
        *(folder / "events").rglob(f"*_{worker}.tfevents.tmp"),
        *(folder / "collections").rglob(f"{worker}_collections.json.tmp"),
    ):
        stale.unlink(missing_ok=True)
    if worker == "worker_0":
        _delete_others(folder, {f"worker_{number}" for number in range(workers)})
    saved = [_read(path, folder) for path in (folder / "index").glob(f"*/*_{worker}.json")]
    if first_eval_step is None:
        # At a validation step, the global step minus the validation step is the training step.
        done = [s for s in saved if s.mode == "EVAL" and s.step - s.mode_step <= first_step]
        first_eval_step = max((s.mode_step + 1 for s in done), default=0) if first_step else 0
    firsts = {"TRAIN": first_step, "EVAL": first_eval_step}
    for step in saved:
        if step.mode_step >= firsts.get(step.mode, 0):
            step.index.unlink(missing_ok=True)
            step.events.unlink(missing_ok=True)
    if tensorboard is not None:
        for path in tensorboard.glob("*/*.tfevents*"):
            number = path.name.partition("_")[0]
            if number.isdecimal() and int(number) >= first_step + first_eval_step:
                path.unlink(missing_ok=True)
    return first_eval_step


def _delete_others(folder: Path, workers: set[str]) -> None:
    for path in folder.glob("collections/*/*_collections.json"):
        if path.name.removesuffix("_collections.json") not in workers:
            path.unlink(missing_ok=True)
    for path in (*folder.glob("index/*/*.json"), *folder.glob("events/*/*.tfevents")):
        if path.stem.partition("_")[2] not in workers:
            path.unlink(missing_ok=True)


def _read(index: Path, folder: Path) -> _Saved:
    """Read an index file; one that cannot be read counts as a step to purge."""
    step = int(index.name.partition("_")[0])
    name = index.name.removesuffix(".json") + ".tfevents"
    events = folder / "events" / f"{step:012}" / name
    try:
        meta = json.loads(index.read_text())["meta"]
        return _Saved(index, events, str(meta["mode"]), step, int(meta["mode_step"]))
    except (ValueError, LookupError, TypeError):
        return _Saved(index, events, "unreadable", step, step)
