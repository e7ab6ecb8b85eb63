import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from local.emulator.executors import Container, ContainerSpec, Executor, ExecutorError
from local.emulator.hosting.instances import TAIL_LENGTH, Instance, InstanceFailed
from tests.unit.local.emulator.fakes import FakeLogStream, RecordingExecutor
from tests.unit.local.emulator.hosting_harness import IMAGE, QUICK

pytestmark = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


class FakeStubbornContainer:
    """A container whose engine does not respond to the first removal."""

    def __init__(self, real: Container) -> None:
        self._real = real
        self.refusals = 1
        self.name, self.address = real.name, real.address
        self.wait, self.stop = real.wait, real.stop

    def remove(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ExecutorError("the engine does not answer")
        self._real.remove()


class FakeStubbornExecutor(RecordingExecutor):
    """An executor that keeps its started containers in order."""

    def __init__(self, real: Executor) -> None:
        super().__init__(real)
        self.stubborn: list[FakeStubbornContainer] = []

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        self.on_line = on_line
        self.stubborn.append(FakeStubbornContainer(super().start(spec, on_line)))
        return cast(Container, self.stubborn[-1])


MakeInstance = Callable[..., tuple[Instance, FakeStubbornExecutor]]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, toy_executor: Executor, lines: list[str]) -> Iterator[MakeInstance]:
    made = []

    def build(
        name: str, *, on_change: Callable[[], None] = lambda: None, start_timeout: float = 10
    ) -> tuple[Instance, FakeStubbornExecutor]:
        base = tmp_path / name
        (base / "model").mkdir(parents=True)
        spec = ContainerSpec(name, IMAGE, ("serve",), base, port=8080)
        engine = FakeStubbornExecutor(toy_executor)
        made.append(
            Instance(
                cast(Executor, engine),
                spec,
                FakeLogStream(lines, threading.Condition()),
                start_timeout=start_timeout,
                timing=QUICK,
                on_change=on_change,
            )
        )
        return made[-1], engine

    yield build
    for one in made:
        one.stop()


def test_a_dead_container_is_removed_before_its_name_is_reused(
    make: MakeInstance, lines: list[str]
) -> None:
    changes: list[bool] = []
    back = threading.Event()

    def changed() -> None:
        changes.append(instance.serving)
        if instance.serving:
            back.set()

    instance, engine = make("one", on_change=changed)
    instance.start()
    assert instance.running
    engine.stubborn[0].stop(10)
    assert back.wait(60)
    assert changes == [False, True]
    assert len(engine.stubborn) == 2
    assert engine.stubborn[0].refusals == 0
    engine.stubborn[1].refusals = 0
    notes = [line.partition("[sagemaker logs]: ")[2] for line in lines if "[sagemaker" in line]
    assert notes == [
        "the container ended with status 0; starting it again",
        "the engine does not answer; trying again in 0.1 seconds",
        "it serves again",
    ]


def test_an_instance_is_stopped_while_it_starts(make: MakeInstance) -> None:
    instance, engine = make("one")
    instance.abandon()
    with pytest.raises(InstanceFailed, match="it was stopped"):
        instance.start()
    assert engine.stubborn == []
    assert not instance.running
    instance.stop()
    instance.stop()


def test_waiting_ends_for_a_container_that_reports_failure(
    make: MakeInstance, tmp_path: Path
) -> None:
    instance, _ = make("one", start_timeout=3600)
    (tmp_path / "one" / "model" / "hopeless").touch()
    with pytest.raises(InstanceFailed, match=r"cannot serve: no model\.json"):
        instance.start()


def test_the_log_tail_has_the_last_lines(
    make: MakeInstance,
) -> None:
    instance, executor = make("one")
    instance.start()
    for number in range(30):
        executor.on_line(f"{number} " + "x" * 100)
    executor.on_line("KeyError: 'classes'")
    tail = instance.log_tail()
    assert tail.endswith("KeyError: 'classes'")
    assert len(tail) == TAIL_LENGTH + 1
