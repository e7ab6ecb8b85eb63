import time

import pytest

from local.client.progress import TransferProgress


def test_a_log_gets_a_line_now_and_then(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with TransferProgress("sending", 2000) as progress:
        for second in range(1, 26):
            now[0] = second
            progress.advance(50)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["sending: 500 of 2,000", "sending: 1,000 of 2,000"]


def test_a_terminal_gets_a_bar_that_goes_away(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TransferProgress("sending", 4) as progress:
        progress.advance(4)
    assert "sending" in capfd.readouterr().err
