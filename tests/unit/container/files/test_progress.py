import sys

import pytest

from container.files import progress as progress_module
from container.files.progress import ProgressBar


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_short_work_prints_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("decoding images", 100) as progress:
        clock.now = 9.9
        progress.advance(100)
    assert capsys.readouterr().out == ""


def test_long_work_prints_occasional_lines_and_one_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar("decoding images", 50_000) as progress:
        for second in range(1, 26):
            clock.now = float(second)
            progress.advance(2_000)
    assert capsys.readouterr().out.splitlines() == [
        "decoding images: 20,000 of 50,000 (2,000/s)",
        "decoding images: 40,000 of 50,000 (2,000/s)",
        "decoding images: 50,000 of 50,000 (2,000/s)",
    ]


def test_an_unknown_total_and_an_earlier_start(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar("downloading", 0, done=100) as progress:
        clock.now = 10.0
        progress.advance(50)
    assert capsys.readouterr().out.splitlines()[0] == "downloading: 150 (5/s)"


def test_failed_work_does_not_print_a_last_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with ProgressBar("decoding images", 10) as progress:
            clock.now = 10.0
            progress.advance(5)
            raise ValueError

    with pytest.raises(ValueError):
        work()
    assert capsys.readouterr().out == "decoding images: 5 of 10 (0/s)\n"


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressBar("decoding images", 10) as progress:
        progress.advance(10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "decoding images: 100%" in captured.err


def test_lines_may_be_written_to_another_stream(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar("uploading photos", 10, log=sys.stderr) as progress:
        clock.now = 10.0
        progress.advance(10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("uploading photos: 10 of 10")
