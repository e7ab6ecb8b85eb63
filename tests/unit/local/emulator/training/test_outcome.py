import errno

import pytest

from local.emulator.training.outcome import TrainingOutcome, failed, first_line


def test_a_failure_has_its_reason() -> None:
    assert failed("ClientError: no") == TrainingOutcome("Failed", "Failed", "ClientError: no")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (KeyError(), "KeyError"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on this machine's"),
        (OSError(errno.EDQUOT, "Quota"), "no space left on this machine's"),
        (OSError("s3://b: no such bucket"), "s3://b: no such bucket"),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str) -> None:
    assert first_line(error).startswith(line)
