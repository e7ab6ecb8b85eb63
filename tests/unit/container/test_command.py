"""The `train` command: status 0 means a model was written; a failure is one helpful line."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from container import command
from tests.trees import write_tree


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a base directory by hand: only input/, with one channel."""
    base = tmp_path / "ml"
    (base / "input" / "data" / "train").mkdir(parents=True)
    write_tree(base, ["train"], {"epochs": 1})
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    monkeypatch.delenv("SAGEMAKER_TRAINING_MODULE", raising=False)
    return base


def ends(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the command's status and the last line of its log."""
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, (capsys.readouterr().err.strip().splitlines() or [""])[-1]


def test_the_serving_image_names_the_training_image(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(command.IMAGE_TARGET, "serve")
    status, line = ends(capsys)
    assert status == 1
    assert "berth:latest" in line
    assert (base / "output" / "failure").read_text() == f"{line}\n"
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base / "nowhere"))
    assert ends(capsys) == (1, line), "also without a job"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        *(
            (f"{name}.json", text, found)
            for name in ("hyperparameters", "inputdataconfig", "resourceconfig")
            for text, found in (
                (None, "found no such file"),
                ("", "found an empty file"),
                ('{"epochs": ', "found Expecting value"),
                ("[]", "found list"),
                ("null", "found null"),
                ('"text"', "found str"),
                ("[" * 100_000, "found brackets nested too deep"),
            )
        ),
        ("resourceconfig.json", "{}", "found hosts null"),
        ("resourceconfig.json", '{"current_host": "a", "hosts": "a"}', "found hosts 'a'"),
        ("resourceconfig.json", '{"current_host": "a", "hosts": []}', "found hosts []"),
        ("resourceconfig.json", '{"current_host": "a", "hosts": [1]}', "found hosts [1]"),
        ("resourceconfig.json", '{"hosts": ["a"]}', "current_host is null"),
        ("resourceconfig.json", '{"current_host": ["a"], "hosts": ["a"]}', "current_host is ['a']"),
        ("inputdataconfig.json", '{"train": null}', "channel 'train' is null"),
        ("inputdataconfig.json", '{"train": "File"}', "channel 'train' is 'File'"),
        ("inputdataconfig.json", '{"../train": {}}', "channel '../train'"),
    ],
)
def test_wrong_configuration_is_one_line_that_names_the_file(
    base: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, found: str
) -> None:
    path = base / "input" / "config" / name
    path.unlink() if text is None else path.write_text(text)
    status, line = ends(capsys)
    assert status == 1
    assert found in line
    assert str(path) in line
    assert "expected" in line
    assert (base / "output" / "failure").read_text() == line + "\n"


@pytest.mark.parametrize("folder", ["output", "output/data", "model", "checkpoints"])
def test_a_folder_that_cannot_be_written_is_named_before_training(
    base: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    (base / folder).parent.mkdir(exist_ok=True)
    (base / folder).write_text("a file")
    status, line = ends(capsys)
    assert status == 1
    assert str(base / folder) in "\n".join((line, *_log(base)))


def _log(base: Path) -> list[str]:
    path = base / "output" / "failure"
    return [path.read_text()] if path.is_file() else []


def test_a_missing_base_directory_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "nowhere"))
    status, line = ends(capsys)
    assert status == 1
    assert "nowhere: found no such folder" in line
    assert not (tmp_path / "nowhere").exists()


MODULES = {
    "returns": ("", 0, ""),
    "raises": ("raise ValueError('odd\\nmore')", 1, "ValueError: odd"),
    "exits": ("import sys; sys.exit(0)", 1, "ended the process with status 0"),
    "exits_7": ("import sys; sys.exit(7)", 7, "ended the process with status 7"),
    "interrupted": ("raise KeyboardInterrupt", 130, "SIGINT"),
    "ended": ("from container.errors import JobEnded; raise JobEnded('told', 143)", 143, "told"),
    "ended_well": ("from container.errors import JobEnded; raise JobEnded('no', 0)", 1, "no"),
}


@pytest.mark.parametrize("case", MODULES)
def test_the_status_is_0_only_if_training_finished(
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    body, expected, said = MODULES[case]
    module = f"training_that_{case}"
    (base / f"{module}.py").write_text(f"def main():\n    {body or 'pass'}\n")
    monkeypatch.syspath_prepend(base)
    monkeypatch.setenv("SAGEMAKER_TRAINING_MODULE", f"{module}:main")
    status, line = ends(capsys)
    sys.modules.pop(module)
    assert status == expected
    assert said in line
    assert (base / "output" / "success").exists() == (expected == 0)
    if expected:
        assert said in (base / "output" / "failure").read_text().partition("\n")[0]


def test_training_without_a_model_has_failed(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("container.train.main", lambda: None)
    status, line = ends(capsys)
    assert status == 1
    assert "found no model" in line


@pytest.mark.parametrize(("left", "expected"), [("features", 0), ("model.json", 1)])
def test_a_job_for_features_writes_features(
    left: str,
    expected: int,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tree(base, ["train"], {"freeze": "true", "features_only": "true"})
    monkeypatch.setattr("container.train.main", lambda: (base / "model" / left).mkdir())
    status, line = ends(capsys)
    assert status == expected
    assert ("found no features" in line) is bool(expected)


@pytest.mark.parametrize("named", ["nowhere:main", "container.train:nothing", "container.train"])
def test_a_missing_module_is_an_error(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    monkeypatch.setenv("SAGEMAKER_TRAINING_MODULE", named)
    status, line = ends(capsys)
    assert status == 1
    assert f"SAGEMAKER_TRAINING_MODULE: found {named!r}" in line


def test_failure_and_success_files_of_an_earlier_run_are_replaced(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (base / "output").mkdir()
    for name in ("failure", "success"):
        (base / "output" / name).write_text("older")
    (base / "input" / "config" / "hyperparameters.json").write_text("")
    assert ends(capsys)[0] == 1
    assert "older" not in (base / "output" / "failure").read_text()
    assert not (base / "output" / "success").exists()


@pytest.mark.parametrize(
    ("hyperparameters", "variables", "said"),
    [
        ({"sagemaker_program": '"train.py"', "epochs": "3"}, {}, "'sagemaker_program': found 'tr"),
        ({"sagemaker_submit_directory": "s3://b/k"}, {}, "'sagemaker_submit_directory': found"),
        ({"sagemaker-program": "train.py"}, {}, "'sagemaker_program': found 'train.py'"),
        ({}, {"SAGEMAKER_PROGRAM": "train.py"}, "variable SAGEMAKER_PROGRAM: found 'train.py'"),
    ],
)
def test_a_custom_training_script_is_refused(
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hyperparameters: dict[str, str],
    variables: dict[str, str],
    said: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setitem(os.environ, name, value)
    path = base / "input" / "config" / "hyperparameters.json"
    path.write_text(json.dumps(hyperparameters))
    status, line = ends(capsys)
    assert status == 1
    assert said in line
    assert "runs no script" in line
    assert "hyperparameters" in line


@pytest.fixture(autouse=True)
def _signals(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None] | None:
    """Keep jobs in this process from handling signals, which the test's process must receive."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return None
