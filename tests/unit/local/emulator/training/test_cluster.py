"""The containers of a job as a cluster."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from local.emulator.executors import ContainerSpec, ExecutorError
from local.emulator.training.cluster import Cluster, HostEnded, HostLost
from tests.unit.local.emulator.fakes import FakeContainer, FakeExecutor, Work

Events = queue.Queue[HostEnded | HostLost]


def specs(folder: Path, count: int) -> list[ContainerSpec]:
    return [
        ContainerSpec(f"job-algo-{n}", "toy:latest", ("train",), folder, hostname=f"algo-{n}")
        for n in range(1, count + 1)
    ]


def cluster(folder: Path, work: Work, count: int = 2) -> tuple[Cluster, FakeExecutor, Events]:
    events: Events = queue.Queue()
    engine = FakeExecutor(work)
    made = Cluster(engine, specs(folder, count), "job", lambda *_: None, events.put)
    return made, engine, events


def test_the_end_of_each_host_is_reported(tmp_path: Path) -> None:
    made, engine, events = cluster(tmp_path, lambda spec, *_: int(spec.hostname[-1]))
    made.start()
    ended = [events.get(timeout=60) for _ in range(2)]
    assert sorted((event.rank, event.status) for event in ended) == [(0, 1), (1, 2)]
    assert all(event.cluster is made for event in ended)
    made.remove()
    assert not engine.running
    assert not engine.networks


def test_lines_have_the_rank_of_their_host(tmp_path: Path) -> None:
    lines: list[tuple[int, str]] = []
    events: Events = queue.Queue()

    def work(spec: ContainerSpec, say: Callable[[str], None], _told: threading.Event) -> int:
        say(spec.hostname)
        return 0

    made = Cluster(
        FakeExecutor(work), specs(tmp_path, 2), None, lambda *line: lines.append(line), events.put
    )
    made.start()
    for _ in range(2):
        events.get(timeout=60)
    assert sorted(lines) == [(0, "algo-1"), (1, "algo-2")]


def wait_for_sigterm(_spec: ContainerSpec, _say: object, told: threading.Event) -> int:
    told.wait(60)
    return 143


def test_all_are_stopped_at_once(tmp_path: Path) -> None:
    told = threading.Barrier(2, timeout=60)

    def work(_spec: ContainerSpec, _say: object, event: threading.Event) -> int:
        event.wait(60)
        told.wait()  # ends only if both get the signal before one of them has ended
        return 143

    made, _, events = cluster(tmp_path, work)
    made.start()
    made.stop(5)
    assert {events.get(timeout=60).rank for _ in range(2)} == {0, 1}


def test_a_lost_engine_is_reported_and_stopping_does_not_fail(tmp_path: Path) -> None:
    made, engine, events = cluster(tmp_path, wait_for_sigterm)
    made.start()
    engine.gone = True
    lost = events.get(timeout=60)
    assert isinstance(lost, HostLost)
    assert lost.line == "the engine does not answer"
    made.stop(0.1)
    made.remove()


def test_started_containers_are_removed_if_another_host_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, engine, _ = cluster(tmp_path, wait_for_sigterm)
    start = engine.start

    def first_only(spec: ContainerSpec, on_line: Callable[[str], None]) -> FakeContainer:
        if spec.hostname == "algo-2":
            raise ExecutorError("no room")
        return start(spec, on_line)

    monkeypatch.setattr(engine, "start", first_only)
    with pytest.raises(ExecutorError, match="no room"):
        made.start()
    assert list(engine.running) == ["job-algo-1"]
    made.remove()
    assert not engine.running
    assert not engine.networks
