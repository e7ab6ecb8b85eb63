"""Follow a job's status changes and log until it ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.client.console import print_note
from local.client.log_streams import LogLine, LogReader
from local.client.polling import FIRST_PAUSE, Backoff, unless_throttled
from local.client.target import Target
from local.log_groups import TRAINING_JOBS
from local.statuses import TERMINAL

QUIET_READS = 2
"""Empty reads after which a log is complete: CloudWatch delivers the last lines late."""


@dataclass
class LinePrinter:
    """Prints log lines, each prefixed with its host as soon as there are several hosts."""

    write: Callable[[str], None] = print
    _hosts: set[str] = field(default_factory=set)

    def show(self, lines: list[LogLine], hosts: int = 1) -> None:
        """Print the lines; `hosts` is the number of hosts the job is known to have."""
        self._hosts |= {line.host for line in lines}
        several = hosts > 1 or len(self._hosts) > 1
        for line in lines:
            self.write(f"{line.host} | {line.text}" if several else line.text)


def follow_training(
    target: Target,
    name: str,
    *,
    log: Callable[[str], None] | None = print,
    on_status: Callable[[str], None] = print_note,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Follow a training job to its end and return the last DescribeTrainingJob response.

    `log` is called with each log line (None: the log is not read), `on_status` with each status
    change.
    """
    client = target.client("sagemaker")
    reader = LogReader(target.client("logs"), TRAINING_JOBS, f"{name}/") if log else None
    printer = LinePrinter(log or print)
    backoff, seen, last = Backoff(sleep), 0, ""
    while True:
        job: dict[str, Any] | None = unless_throttled(
            lambda: client.describe_training_job(TrainingJobName=name)
        )
        if job is None:
            backoff.wait(happened=False)
            continue
        hosts = job["ResourceConfig"].get("InstanceCount", 1)
        transitions = job.get("SecondaryStatusTransitions", [])
        # Only the newest transition's message may still change.
        newest = max(0, seen - 1)
        for position, transition in enumerate(transitions[newest:], newest):
            line = transition_line(transition)
            if position >= seen or line != last:
                on_status(line)
            last = line
        happened = len(transitions) > seen
        seen = len(transitions)
        ended = job["TrainingJobStatus"] in TERMINAL
        if reader is not None:
            lines = reader.read()
            printer.show(lines, hosts)
            happened = happened or bool(lines)
        if ended:
            break
        backoff.wait(happened=happened)
    if reader is not None:
        quiet = 0
        while quiet < QUIET_READS:
            sleep(FIRST_PAUSE)
            lines = reader.read()
            printer.show(lines, hosts)
            quiet = 0 if lines else quiet + 1
    return job


def transition_line(transition: dict[str, Any]) -> str:
    """One line for a status change: time, status and message."""
    at = transition["StartTime"].astimezone().strftime("%H:%M:%S")
    message = " ".join(transition.get("StatusMessage", "").split())
    return f"{at}  {transition['Status']}" + (f": {message}" if message else "")


def interruptions(job: dict[str, Any]) -> list[str]:
    """A line for each spot interruption of a training job."""
    return [
        transition_line(transition)
        for transition in job.get("SecondaryStatusTransitions", [])
        if transition["Status"] == "Interrupted"
    ]
