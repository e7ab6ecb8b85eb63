import json
import math
from pathlib import Path
from typing import Any

import pytest

from container.monitoring.profiler.reading.metadata import (
    CURVES,
    read_jobs,
    read_lines,
    read_operators,
    read_rules,
)
from container.monitoring.profiler.reading.text import RecordingWarnings


def name(path: Any) -> Any:
    return path.name


def written(tmp_path: Path, text: Any, file: str = "file.json") -> Any:
    path = tmp_path / file
    path.write_text(text)
    return path


def test_further_hosts_complete_the_facts(tmp_path: Path) -> None:
    first = written(tmp_path, '{"cores": 4, "workers": null}', "a.json")
    second = written(tmp_path, '{"cores": 8, "workers": 2}', "b.json")
    assert read_jobs([first, second], name, RecordingWarnings()) == {"cores": 4, "workers": 2}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"cores": 4', "is not JSON; it may be cut short"),
        ("[]", "expected an object with the job's facts"),
        ("[" * 100_000, "is not JSON; it may be cut short"),
    ],
)
def test_facts_that_cannot_be_read(tmp_path: Path, text: Any, problem: str) -> None:
    problems = RecordingWarnings()
    assert read_jobs([written(tmp_path, text)], name, problems) == {}
    assert problems.lines() == (f"file.json: {problem}",)


def test_lines_are_parsed_into_numbers(tmp_path: Path) -> None:
    lines = ['{"step": 1, "loss": 2.5}', "", '{"step": 2, "loss": null, "more": 1}', '{"step": 3']
    problems = RecordingWarnings()
    table = read_lines(written(tmp_path, "\n".join(lines)), name, problems, CURVES)
    assert list(table.columns) == [*CURVES, "more"]
    assert table["step"].tolist() == [1, 2]
    assert math.isnan(table["loss"][1])
    assert problems.lines() == ("file.json: 1 of 4 lines could not be read and were left out",)


def test_losses_that_are_not_finite_are_kept(tmp_path: Path) -> None:
    table = read_lines(
        written(tmp_path, '{"loss": NaN}\n{"loss": Infinity}'), name, RecordingWarnings()
    )
    assert math.isnan(table["loss"][0])
    assert math.isinf(table["loss"][1])


@pytest.mark.parametrize("text", ["", "7\n", '{"loss": "a"}\n', '{"loss": 1' + "0" * 400 + "}"])
def test_lines_in_other_formats(tmp_path: Path, text: Any) -> None:
    table = read_lines(written(tmp_path, text), name, RecordingWarnings(), CURVES)
    assert list(table.columns)[: len(CURVES)] == list(CURVES)
    assert table["loss"].isna().all()


def test_a_missing_file_has_no_lines() -> None:
    assert read_lines(None, name, RecordingWarnings(), CURVES).empty


def test_rules(tmp_path: Path) -> None:
    entry = {"RuleConfigurationName": "a", "RuleEvaluationStatus": "InProgress"}
    path = written(tmp_path, json.dumps([entry, 7, {}]))
    assert read_rules(path, name, RecordingWarnings()) == [entry]
    problems = RecordingWarnings()
    assert read_rules(written(tmp_path, "{}"), name, problems) == []
    assert problems.lines() == ("file.json: expected a list of rule statuses",)


def test_text_with_lone_surrogates_is_replaced(tmp_path: Path) -> None:
    found = read_jobs(
        [written(tmp_path, '{"job": "a\\ud800", "h": [{"\\udfff": 1}]}')], name, RecordingWarnings()
    )
    assert found == {"job": "a?", "h": [{"?": 1}]}


def test_operators(tmp_path: Path) -> None:
    rows = [
        {"name": "add", "device": "CUDA", "calls": 2, "self_time": 1, "total_time": 2},
        {"name": "late", "self_time": "x"},
    ]
    path = written(tmp_path, json.dumps({"operators": rows}), "algo-2-rank3-operators.json")
    problems = RecordingWarnings()
    table = read_operators([path], name, problems)
    assert table.to_dict("records") == [
        {"rank": 3, "device": "cuda", "name": "add", "calls": 2, "self_time": 1, "total_time": 2}
    ]
    assert problems.lines() == (
        "algo-2-rank3-operators.json: operators without a name or a time were left out",
    )


@pytest.mark.parametrize("text", ["", "7", "{}", "[" * 100_000])
def test_tables_that_cannot_be_read(tmp_path: Path, text: Any) -> None:
    problems = RecordingWarnings()
    assert read_operators([written(tmp_path, text)], name, problems).empty
    assert problems.lines() == ("file.json: holds no table of operators",)
