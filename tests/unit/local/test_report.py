import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local import report as subject
from local.errors import UserError
from local.report_page import write_report_page
from tests.unit.local.commands import Commands
from tests.unit.local.fake_tuning import FakeTuning, trial, tuning_job

PNG = b"\x89PNG a picture"
EVIL = "<img src=x onerror=alert(1)>"
JOB: dict[str, Any] = {
    "TrainingJobName": "first",
    "TrainingJobStatus": "Completed",
    "SecondaryStatus": "Completed",
    "HyperParameters": {"epochs": "2", "arch": '"resnet18"', "note": EVIL},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    "AlgorithmSpecification": {"TrainingImage": "berth:latest"},
    "TrainingTimeInSeconds": 90,
    "BillableTimeInSeconds": 30,
    "FinalMetricDataList": [{"MetricName": "validation:accuracy", "Value": 0.9}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder with what our image leaves."""
    data = tmp_path / "first" / "output" / "data"
    data.mkdir(parents=True)
    row = {"precision": 1.0, "recall": 0.9, "f1": 0.947, "support": 20}
    report = {
        "split": "test",
        "images": 40,
        "accuracy": 0.925,
        "top5": 1.0,
        "best_epoch": 2,
        "classes": {"cat": row, EVIL: row},
    }
    (data / "evaluation.json").write_text(json.dumps(report))
    epochs = [{"epoch": n, "validation:accuracy": n / 9} for n in (1, 2)]
    (data / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in epochs))
    for name in ("confusion.png", "curves.png", "other.png"):
        (data / name).write_bytes(PNG)
    return tmp_path / "first"


def test_everything_a_job_left_is_on_one_page(folder: Path) -> None:
    text = write_report_page(JOB, folder).read_text()
    assert "<b>92.50%</b> accuracy" in text
    assert "<td>cat</td><td>1.000</td><td>0.900</td><td>0.947</td><td>20</td>" in text
    assert "<td>2</td><td>0.22222</td>" in text
    assert "<td>arch</td><td>resnet18</td>" in text
    assert "<td>validation:accuracy</td><td>0.9</td>" in text
    assert "billed 30 s" in text
    picture = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert text.count(picture) == 3
    assert text.index("Loss, accuracy") < text.index("<h2>Confusion") < text.index("<h2>other")


def test_names_are_text_and_nothing_is_loaded(folder: Path) -> None:
    text = write_report_page(JOB | {"FailureReason": EVIL}, folder).read_text()
    assert EVIL not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") == 3
    assert "<script" not in text
    assert "http" not in text


def test_a_job_that_left_nothing(tmp_path: Path) -> None:
    job = JOB | {"TrainingJobStatus": "Failed", "FailureReason": "no luck"}
    text = write_report_page(job, tmp_path / "first").read_text()
    assert "<p class=failure>no luck</p>" in text
    assert "The job left no output." in text


@pytest.mark.parametrize("content", ["[]", "{", '{"images": 3}'])
def test_another_images_evaluation(folder: Path, content: str) -> None:
    (folder / "output/data/evaluation.json").write_text(content)
    with pytest.raises(UserError, match=r"evaluation\.json: "):
        write_report_page(JOB, folder)


@dataclass
class Done:
    """SageMaker with one training job."""

    job: dict[str, Any]
    asked: list[str] = field(default_factory=list)

    def client(self, service: str) -> "Done":
        self.asked.append(service)
        return self

    def describe_training_job(self, **_arguments: str) -> dict[str, Any]:
        return self.job

    def describe_hyper_parameter_tuning_job(self, **_arguments: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "ResourceNotFound"}}, "Describe")

    def command(self, *words: str) -> str:
        return " ".join(["berth", *words])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    urls: list[str] = []
    monkeypatch.setattr("webbrowser.open", urls.append)
    return urls


def test_the_page_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    place = Done(JOB)
    done = Commands(place, monkeypatch).run("report", "first")
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout.strip() == str(folder / "index.html")
    assert opened == [(folder / "index.html").as_uri()]
    assert "s3" not in place.asked  # what is at home is not downloaded again


def test_outputs_are_brought_home_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    brought: list[Path] = []
    monkeypatch.setattr(
        subject, "bring_home", lambda _place, _job, folder, **_settings: brought.append(folder)
    )
    words = ("report", "first", "--no-open", "--output-dir", str(tmp_path / "there"))
    done = Commands(Done(JOB), monkeypatch).run(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert brought == [tmp_path / "there"]
    assert opened == []


def test_a_running_job_has_no_report_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Done(JOB | {"TrainingJobStatus": "InProgress"})
    done = Commands(running, monkeypatch).run("report", "first", "--no-open")
    assert isinstance(done.exception, UserError)
    assert "berth logs -f first" in str(done.exception)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_tuning_jobs_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    state = (tuning_job(), [trial(1, "Completed", 0.8, epochs="2")])

    class Searched(FakeTuning):
        def describe_training_job(self, **_arguments: str) -> dict[str, Any]:
            from botocore.exceptions import ClientError

            raise ClientError({"Error": {"Code": "ResourceNotFound"}}, "Describe")

    done = Commands(Searched(state), monkeypatch).run("report", "search")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "<h1>search</h1>" in (tmp_path / "search/tuning.html").read_text()
    assert opened == [(tmp_path / "search/tuning.html").as_uri()]
