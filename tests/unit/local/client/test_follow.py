from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.client.follow import LinePrinter, follow_training, interruptions
from local.client.log_streams import LogLine
from local.client.polling import LONGEST_PAUSE, Backoff
from tests.unit.local.fake_logs import FakeLogs

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def transition(status: str, message: str = "") -> dict[str, Any]:
    return {"Status": status, "StartTime": AT, "StatusMessage": message}


def answer(status: str, *transitions: dict[str, Any], hosts: int = 1) -> dict[str, Any]:
    return {
        "TrainingJobName": "job",
        "TrainingJobStatus": status,
        "ResourceConfig": {"InstanceCount": hosts},
        "SecondaryStatusTransitions": list(transitions),
    }


class Story:
    """A target whose job returns these responses in turn; each may write to the log or raise."""

    def __init__(self, *chapters: tuple[Any, list[tuple[str, str]]]) -> None:
        self.logs = FakeLogs()
        self._chapters: Iterator[tuple[Any, list[tuple[str, str]]]] = iter(chapters)
        self._time = 0

    def client(self, service: str) -> Any:
        return self.logs if service == "logs" else self

    def describe_training_job(self, *, TrainingJobName: str) -> Any:  # noqa: N803
        assert TrainingJobName == "job"
        statuses, lines = next(self._chapters)
        for host, text in lines:
            self._time += 1
            self.logs.streams.setdefault(f"job/{host}-17", []).append((self._time, text))
        if isinstance(statuses, Exception):
            raise statuses
        return statuses


def follow(story: Story) -> tuple[dict[str, Any], list[str], list[str]]:
    log: list[str] = []
    statuses: list[str] = []
    job = follow_training(
        story,  # type: ignore[arg-type]
        "job",
        log=log.append,
        on_status=statuses.append,
        sleep=lambda _seconds: None,
    )
    return job, log, [line.split("  ", 1)[1] for line in statuses]


def test_a_job_is_followed_to_its_end() -> None:
    starting, training = transition("Starting", "Preparing"), transition("Training")
    end = answer("Completed", starting, training, transition("Completed", "done"))
    story = Story(
        (answer("InProgress", starting), []),
        (answer("InProgress", starting, training), [("algo-1", "epoch 1")]),
        (answer("InProgress", starting, training), [("algo-1", "epoch 2")]),
        (end, [("algo-1", "the last line")]),
    )
    job, log, statuses = follow(story)
    assert job == end
    assert log == ["epoch 1", "epoch 2", "the last line"]
    assert statuses == ["Starting: Preparing", "Training", "Completed: done"]


def test_each_change_of_the_message_is_printed_once() -> None:
    story = Story(
        (answer("InProgress", transition("Starting", "a")), []),
        (answer("InProgress", transition("Starting", "b")), []),
        (answer("InProgress", transition("Starting", "b")), []),
        (answer("Stopped", transition("Starting", "b"), transition("Stopped")), []),
    )
    assert follow(story)[2] == ["Starting: a", "Starting: b", "Stopped"]


def test_lines_of_several_hosts_are_labelled() -> None:
    story = Story(
        (answer("InProgress", hosts=2), [("algo-1", "first")]),
        (answer("Completed", hosts=2), [("algo-2", "second")]),
    )
    assert follow(story)[1] == ["algo-1 | first", "algo-2 | second"]


def test_throttling_is_retried() -> None:
    busy = ClientError({"Error": {"Code": "ThrottlingException"}}, "DescribeTrainingJob")
    story = Story((busy, []), (busy, []), (answer("Completed"), [("algo-1", "a")]))
    job, log, _ = follow(story)
    assert job["TrainingJobStatus"] == "Completed"
    assert log == ["a"]


def test_another_error_is_raised() -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        follow(Story((ClientError({"Error": {"Code": "AccessDenied"}}, "Describe"), [])))


def test_interruptions_are_listed() -> None:
    job = answer(
        "Completed",
        transition("Training"),
        transition("Interrupted", "Interrupted at 03:04; 12 s of work are lost"),
        transition("Training"),
    )
    [line] = interruptions(job)
    assert line.endswith("Interrupted: Interrupted at 03:04; 12 s of work are lost")


def test_polling_slows_down_while_nothing_happens() -> None:
    pauses: list[float] = []
    backoff = Backoff(pauses.append)
    backoff.wait(happened=True)
    for _ in range(20):
        backoff.wait(happened=False)
    backoff.wait(happened=True)
    assert pauses[0] == pauses[-1] < pauses[1] < pauses[2]
    assert max(pauses) == LONGEST_PAUSE


def test_a_second_host_is_labelled_while_printing() -> None:
    lines: list[str] = []
    printer = LinePrinter(lines.append)
    printer.show([LogLine("e/i-1a", "one", 0)])
    printer.show([LogLine("e/i-2b", "two", 1)])
    assert lines == ["one", "i-2b | two"]
