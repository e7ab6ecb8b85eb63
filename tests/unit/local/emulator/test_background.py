import threading

import pytest

from local.emulator.background import Background


def test_join_waits_for_work_and_for_the_work_it_starts() -> None:
    background, done = Background(), []
    gate = threading.Event()

    def first() -> None:
        gate.wait(5)
        background.spawn("second", lambda: done.append("second"), done.append)
        done.append("first")

    background.spawn("first", first, done.append)
    threading.Timer(0.05, gate.set).start()
    background.join()
    assert sorted(done) == ["first", "second"]
    background.join()


def test_what_nobody_expects_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise KeyError("spare")

    background, told = Background(), []
    background.spawn("job", work, told.append)
    background.join()
    assert told == ["KeyError: 'spare'"]
    assert "Traceback" in caplog.text
