import threading

import pytest

from local.emulator.background import Background


def test_join_waits_for_work_and_the_work_it_starts() -> None:
    background, done = Background(), []
    gate = threading.Event()

    def first() -> None:
        gate.wait(60)
        background.spawn("second", lambda: done.append("second"), done.append)
        done.append("first")

    background.spawn("first", first, done.append)
    threading.Timer(0.05, gate.set).start()
    background.join()
    assert sorted(done) == ["first", "second"]
    background.join()


def test_an_unexpected_error_is_reported_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise KeyError("spare")

    background, failures = Background(), list[str]()
    background.spawn("job", work, failures.append)
    background.join()
    assert failures == ["KeyError: 'spare'"]
    assert "Traceback" in caplog.text


def test_join_while_a_thread_is_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    background = Background()
    starting, go_on, joined = threading.Event(), threading.Event(), threading.Event()
    start, done, raised = threading.Thread.start, [], []

    def slowly(thread: threading.Thread) -> None:
        if thread.name == "job":
            starting.set()
            assert go_on.wait(60)
        start(thread)

    def join() -> None:
        try:
            background.join()
        except RuntimeError as error:
            raised.append(error)
        joined.set()

    monkeypatch.setattr(threading.Thread, "start", slowly)
    spawner = threading.Thread(
        target=background.spawn, args=("job", lambda: done.append("job"), done.append)
    )
    spawner.start()
    assert starting.wait(60)
    threading.Thread(target=join).start()
    joined.wait(0.05)  # join finds the thread before it has started
    go_on.set()
    assert joined.wait(60)
    spawner.join()
    background.join()
    assert (raised, done) == ([], ["job"])


def test_a_thread_that_cannot_start_does_not_affect_later_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    background, done = Background(), list[str]()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            background.spawn("job", lambda: done.append("never"), done.append)
    background.join()
    background.spawn("job", lambda: done.append("job"), done.append)
    background.join()
    assert done == ["job"]
