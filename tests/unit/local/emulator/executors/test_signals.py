import subprocess
import sys
from signal import SIGHUP, SIGTERM
from typing import Any

import pytest

from local.emulator.executors.signals import COLUMNS, handles_signal, status_handles_signal

LINE = (
    "import signal, time; signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # nohup ignores it
    "{}; print(flush=True); time.sleep(60)"
)
CAUGHT = "0000000000004002"
NONE = "0000000000000000"


def table(*rows: list[str]) -> dict[str, Any]:
    return {"Titles": ["PID", "CAUGHT", "BLOCKED", "IGNORED"], "Processes": list(rows)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0", False),
        ("signal.signal(signal.SIGHUP, print)", False),
        ("signal.signal(signal.SIGTERM, print)", True),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", True),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])", True),
    ],
)
def test_a_handler_is_seen_in_the_output_of_ps(line: str, expected: bool) -> None:
    command = [sys.executable, "-c", LINE.format(line)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        command = ["ps", "-o", COLUMNS, "-p", str(process.pid)]
        titles, row = subprocess.check_output(command, text=True).splitlines()
        table = {"Titles": titles.split(), "Processes": [row.split()]}
        assert handles_signal(table, process.pid, SIGTERM) is expected
        assert handles_signal(table, process.pid, SIGHUP) is ("SIGHUP" in line)
        process.kill()


def test_only_the_given_process_counts() -> None:
    rows = table(["5", NONE, NONE, NONE], ["6", CAUGHT, NONE, NONE])
    assert not handles_signal(rows, 5, SIGTERM)
    assert handles_signal(rows, 6, SIGTERM)
    assert handles_signal(table(["5", NONE, "<00004000", NONE]), 5, SIGTERM)


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        table(),
        table(["7", NONE, NONE, NONE]),
        table(["5", NONE]),
        table(["5", "?", NONE, NONE]),
    ],
)
def test_an_unknown_process_counts_as_handling_it(found: Any) -> None:
    assert handles_signal(found, 5, SIGTERM)


@pytest.mark.parametrize(
    ("caught", "blocked", "ignored", "expected"),
    [("0", "0", "0", False), ("4000", "0", "0", True), ("0", "4000", "0", True),
     ("0", "0", "4000", True), ("2", "1", "8000", False), ("?", "0", "0", True)],
)  # fmt: skip
def test_the_status_file_shows_it_too(
    caught: str, blocked: str, ignored: str, expected: bool
) -> None:
    status = f"Name:\tcat\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n"
    assert status_handles_signal(status, SIGTERM) is expected


def test_without_a_status_it_is_unknown() -> None:
    assert status_handles_signal("", SIGTERM) is True
