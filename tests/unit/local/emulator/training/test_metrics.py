"""Metrics read from log lines."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.emulator.training.metrics import LONGEST_LINE, MetricPoint, MetricWatch, read_metrics

OPENED: list[MetricWatch] = []


class Watched:
    def __init__(self, path: Path, **definitions: str) -> None:
        self.said: list[str] = []
        self.path = path
        given = [{"Name": name, "Regex": pattern} for name, pattern in definitions.items()]
        self.watch = MetricWatch(given, path, self.said.append)
        OPENED.append(self.watch)

    def read(self, *lines: str) -> list[tuple[str, float]]:
        for line in lines:
            self.watch.read(line)
        return [(metric.name, metric.value) for metric in self.watch.every()]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "job" / "metrics.jsonl"
    while OPENED:
        OPENED.pop().close()


def test_every_match_in_a_line_counts(path: Path) -> None:
    watched = Watched(path, loss="loss=([0-9.]+)")
    assert watched.read("loss=1.5; loss=0.5;", "nothing") == [("loss", 1.5), ("loss", 0.5)]


def test_every_definition_is_matched_against_a_line(path: Path) -> None:
    watched = Watched(path, a="a=(.*?);", b="b=(.*?);")
    assert watched.read("a=1;b=2;", "b=-3e-2;") == [("a", 1.0), ("b", 2.0), ("b", -0.03)]


def test_values_that_are_not_numbers_are_left_out(path: Path) -> None:
    watched = Watched(path, a="a=(.*?);", b="b=(x)?")
    assert watched.read("a=;a=x;a=1;", "b=") == [("a", 1.0)]


def test_infinity_is_recorded_but_is_not_a_final_metric(path: Path) -> None:
    watched = Watched(path, a="a=(.*?);")
    watched.read("a=0.5;", "a=nan;", "a=inf;")
    assert len(watched.watch.every()) == 3
    assert [one["Value"] for one in watched.watch.final()] == [0.5]


def test_the_last_value_of_each_metric_is_final(path: Path) -> None:
    watched = Watched(path, a="a=(.*?);", b="b=(.*?);", never="z=(.*?);")
    watched.read("b=1;a=1;", "a=2;")
    final = watched.watch.final()
    assert [(one["MetricName"], one["Value"]) for one in final] == [("a", 2.0), ("b", 1.0)]
    assert final[0]["Timestamp"].tzinfo is not None


def test_metrics_are_written_at_once_and_read_again_later(path: Path) -> None:
    watched = Watched(path, a="a=(.*?);")
    watched.read("a=1;")
    assert [metric.value for metric in read_metrics(path)] == [1.0]
    watched.watch.close()
    again = Watched(path, a="a=(.*?);")
    assert again.read("a=2;") == [("a", 1.0), ("a", 2.0)]
    assert [metric.value for metric in again.watch.unpublished()] == [2.0]
    assert again.watch.unpublished() == []


def test_a_line_truncated_by_a_crash_is_left_out(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"name": "a", "value": 1.0, "timestamp": 2.0}\n{"name": "a", "va')
    assert read_metrics(path) == [MetricPoint("a", 1.0, 2.0)]


def test_without_a_file_there_are_no_metrics(path: Path) -> None:
    assert read_metrics(path) == []


def test_a_regex_that_takes_too_long_is_disabled_and_named(path: Path) -> None:
    watched = Watched(path, bad=r"(?:x|xx)+y([0-9])", good="g=([0-9])")
    watched.read("x" * 60 + " y g=1", "x" * 60 + " y g=2")
    assert [metric.value for metric in watched.watch.every()] == [1.0, 2.0]
    assert len(watched.said) == 1
    assert watched.said[0].startswith("metric bad: its regular expression took over")


def test_an_invalid_regex_is_named(path: Path) -> None:
    watched = Watched(path, bad="(", good="g=([0-9])")
    assert watched.read("g=1") == [("good", 1.0)]
    assert watched.said[0].startswith("metric bad: its regular expression is not used")


def test_only_the_start_of_a_long_line_is_searched(path: Path) -> None:
    watched = Watched(path, a="a=([0-9])")
    assert watched.read("a=1" + " " * LONGEST_LINE + "a=2") == [("a", 1.0)]


def test_hosts_may_print_at_the_same_time(path: Path) -> None:
    watched = Watched(path, a="a=([0-9]+)")

    def print_lines() -> None:
        for _ in range(50):
            watched.watch.read("a=1")

    threads = [threading.Thread(target=print_lines) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(watched.watch.every()) == 200
    watched.watch.close()
    assert len(read_metrics(path)) == 200
