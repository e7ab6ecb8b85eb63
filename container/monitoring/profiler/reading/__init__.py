"""Reads the recording of a profiled job from any of its folders."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import pandas as pd

from container.monitoring.profiler.reading.events import COLUMNS, Events, read_events
from container.monitoring.profiler.reading.layout import RecordingLayout
from container.monitoring.profiler.reading.metadata import (
    CURVES,
    read_jobs,
    read_lines,
    read_operators,
    read_rules,
)
from container.monitoring.profiler.reading.system import read_system
from container.monitoring.profiler.reading.text import LATEST, RecordingWarnings, natural, printable

_TIMES = ("started", "training_started", "training_ended", "ended")
_COUNTS = ("world", "cores", "workers", "batch_size", "train_images", "image_size")


@dataclass(frozen=True)
class Recording:
    """Everything in a folder that could be read.

    Attributes:
        system: a row a sample, by time: time (unix s), node (algo-1), kind (cpu, gpu, memory,
            network, disk), name (cpu0, gpu0, …), dimension (SageMaker's), value; texts are
            categoricals.
        events: a row an event, by start: node, pid, rank, phase (`reading.phases`), name (as
            recorded), mode (train, eval, other), step (-1: none), start (unix s), duration (s).
        operators: rank, device (cpu, cuda), name, calls, self_time, total_time (s).
        job: job.json's facts, completed from what was recorded: hosts, world, cores, device,
            started, training_started, training_ended, ended, workers where they are known;
            `inferred` lists the facts that do not stand in job.json.
        curves: step, epoch, time, loss, learning_rate, gradient_norm.
        epochs: a row an epoch.
        debug_rules: the debugger rules' statuses.
        problems: what was missing, cut short, out of order, in plain words.
        on_device: as events, what a GPU itself did of each phase, where that was measured.
    """

    system: pd.DataFrame
    events: pd.DataFrame
    operators: pd.DataFrame
    job: dict[str, Any]
    curves: pd.DataFrame
    epochs: pd.DataFrame
    debug_rules: list[dict[str, Any]]
    problems: tuple[str, ...]
    on_device: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))

    @classmethod
    def read(cls, folder: Path) -> "Recording":
        """An unpacked output.tar.gz, `output/data`, a profiler root, or SageMaker's own folder.

        Skips damaged and foreign files; `problems` says what is missing.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: expected a folder with a job's output")
        problems = RecordingWarnings()
        places = RecordingLayout.find(folder, problems)
        system = read_system(places.system, places.name, problems)
        events = read_events(places.events, places.name, problems)
        tables = read_operators(places.operators, places.name, problems)
        if system.empty:
            problems.note("no system metrics were found")
        if events.table.empty:
            problems.note("no framework events were found: nothing is known of the steps")
        facts = _checked(read_jobs(places.jobs, places.name, problems), problems)
        return cls(
            system=system,
            events=events.table,
            operators=events.operators if tables.empty else tables,
            job=_completed(facts, system, events, folder),
            curves=read_lines(places.curves, places.name, problems, CURVES),
            epochs=read_lines(places.epochs, places.name, problems),
            debug_rules=read_rules(places.rules, places.name, problems),
            problems=problems.lines(),
            on_device=events.on_device,
        )


def _checked(facts: dict[str, Any], problems: RecordingWarnings) -> dict[str, Any]:
    """The facts with a valid type."""
    kept = dict(facts)
    for key in (*_TIMES, *_COUNTS):
        value = kept.get(key)
        if value is None:
            continue
        if not _is_number(value):
            problems.note(f"{key}: expected a number, found {value!r}", "job.json")
            del kept[key]
    hosts = kept.get("hosts")
    if hosts is not None and not (
        isinstance(hosts, list) and hosts and all(isinstance(host, str) for host in hosts)
    ):
        problems.note(f"hosts: expected a list of names, found {hosts!r}", "job.json")
        del kept["hosts"]
    return kept


def _is_number(value: Any) -> TypeGuard[float]:
    """Whether a fact is a valid count or time."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LATEST


def _completed(
    facts: dict[str, Any], system: pd.DataFrame, events: Events, folder: Path
) -> dict[str, Any]:
    """The facts, completed from the recording."""
    inferred = {**_from_system(system), **_from_events(events)}
    nodes = {*system["node"].unique(), *events.table["node"].unique()}
    if nodes:
        inferred["hosts"] = sorted(map(str, nodes), key=natural)
    starts = [table.min() for table in (system["time"], events.table["start"]) if len(table)]
    ends = (system["time"], events.table["start"] + events.table["duration"])
    if starts:
        inferred["started"] = float(min(starts))
        inferred["ended"] = float(max(table.max() for table in ends if len(table)))
    place = folder.resolve()
    while place.name in _UNNAMED:
        place = place.parent
    inferred["job"] = printable(place.name)
    added = {key: value for key, value in inferred.items() if key not in facts}
    return {**facts, **added, "inferred": sorted(added)}


_UNNAMED = ("profiler-output", "profiler", "data", "output")


def _from_system(system: pd.DataFrame) -> dict[str, Any]:
    cores = system.loc[system["kind"] == "cpu", ["node", "name"]].drop_duplicates()
    found: dict[str, Any] = {}
    if not system.empty:
        found["device"] = "GPU" if (system["kind"] == "gpu").any() else "cpu"
    if not cores.empty:
        found["cores"] = int(cores.groupby("node", observed=True).size().max())
    return found


def _from_events(events: Events) -> dict[str, Any]:
    table = events.table
    found: dict[str, Any] = {}
    steps = table[table["phase"] == "step"]
    train = steps[steps["mode"] == "train"]
    if not steps.empty:
        found["world"] = int(steps["rank"].max()) + 1
    if not train.empty:
        found["training_started"] = float(train["start"].min())
        found["training_ended"] = float((train["start"] + train["duration"]).max())
    workers = events.loader.get("num_workers")
    if _is_number(workers):
        found["workers"] = int(workers)
    if isinstance(events.loader.get("pin_memory"), bool):
        found["pin_memory"] = events.loader["pin_memory"]
    return found
