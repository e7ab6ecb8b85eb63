import subprocess
import sys
from signal import SIGHUP, SIGTERM

import pytest

from local.emulator.executors.signals import heeds

LINE = "import signal, time; {}; print(flush=True); time.sleep(60)"


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
def test_a_handler_is_seen(line: str, expected: bool) -> None:
    command = [sys.executable, "-c", LINE.format(line)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert heeds(process.pid, SIGTERM) is expected
        assert heeds(process.pid, SIGHUP) is ("SIGHUP" in line)
        process.kill()


def test_a_process_elsewhere_is_taken_to_heed() -> None:
    assert heeds(2**22 + 1, SIGTERM)
