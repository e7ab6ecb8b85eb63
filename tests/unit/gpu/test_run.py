"""What `make gpu` says where there is no GPU, and the table it prints where there is one."""

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.gpu import run
from tests.gpu.run import Row, Rows, main, table


def test_a_machine_without_a_gpu_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("gpu: found no NVIDIA GPU that PyTorch ")


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ({"torch"}, "has no PyTorch; name a Python that has: make gpu PYTHON="),
        ({"pydantic", "PIL"}, "lacks pillow, pydantic: pip install pillow pydantic"),
    ],
)
def test_what_no_job_trains_without_is_named(
    missing: set[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else name)
    assert line in str(run.problem())


def test_a_machine_that_has_everything_has_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert run.problem() is None


def report(when: str, outcome: str, seconds: float, **more: Any) -> Any:
    given: dict[str, Any] = {
        "user_properties": [],
        "longrepr": None,
        "nodeid": "test_training.py::test_bf16",
    }
    return SimpleNamespace(
        when=when,
        duration=seconds,
        skipped=outcome == "skipped",
        failed=outcome == "failed",
        **(given | more),
    )


def rows_of(*reports: Any) -> list[Row]:
    plugin = Rows()
    mark = SimpleNamespace(args=("training in bf16",))
    item = SimpleNamespace(
        nodeid="test_training.py::test_bf16", get_closest_marker=lambda _name: mark
    )
    other = SimpleNamespace(nodeid="other", get_closest_marker=lambda _name: None)
    plugin.pytest_collection_modifyitems([item, other])
    for each in (*reports, report("call", "failed", 1.0, nodeid="other")):
        plugin.pytest_runtest_logreport(each)
    return list(plugin.rows.values())


def test_a_row_has_a_tests_outcome_time_and_figures() -> None:
    figures = [("figure", "12 images/s"), ("worker", "1"), ("figure", "0.9 right")]
    found = rows_of(
        report("setup", "passed", 1.5), report("call", "passed", 2.0, user_properties=figures)
    )
    assert found == [Row("training in bf16", "ok", 3.5, "12 images/s; 0.9 right")]


def test_a_row_of_what_a_machine_lacks_says_so() -> None:
    skipped = report("call", "skipped", 0.0, longrepr=("file", 1, "Skipped: 2 GPUs"))
    assert rows_of(skipped)[0].outcome == "not run: needs 2 GPUs"


@pytest.mark.parametrize("when", ["setup", "call", "teardown"])
def test_a_failure_at_any_time_is_one(when: str) -> None:
    before = [report("setup", "passed", 0.0)] if when != "setup" else []
    assert rows_of(*before, report(when, "failed", 1.0))[0].outcome == "failed"


def test_the_table_has_a_line_a_row_and_its_columns_are_aligned() -> None:
    lines = table(
        [Row("short", "ok", 1.0, "a figure"), Row("a longer title", "not run: needs flask")]
    ).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["check", "short", "a longer title"]
    assert (
        len({line.index(word) for line, word in zip(lines, ("outcome", "ok", "not"), strict=True)})
        == 1
    )
    assert lines[1].endswith("1.0  a figure")
