import json
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.commands import report as subject
from local.errors import UserError
from tests.unit.local.command_runner import Commands
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


def leave_report(folder: Path, sentence: str = "The GPU waits.") -> Path:
    page = folder / "output/data/report/profiler-report.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html>")
    figures = {"verdict": {"sentences": [sentence]}}
    page.with_name("report.json").write_text(json.dumps(figures))
    return page


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

    def get_paginator(self, _name: str) -> "Done":
        return self

    def paginate(self, **_arguments: object) -> list[dict[str, Any]]:
        going = {**self.job, "TrainingJobName": "second", "TrainingJobStatus": "InProgress"}
        times = {"CreationTime": datetime(2026, 1, 2, tzinfo=UTC)}
        return [{"TrainingJobSummaries": [going | times, self.job | times]}]

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
    target = Done(JOB)
    done = Commands(target, monkeypatch).run("report", "first")
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout.strip() == str(folder / "index.html")
    assert opened == [(folder / "index.html").as_uri()]
    assert "s3" not in target.asked  # what is at home is not downloaded again


def test_outputs_are_brought_home_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    brought: list[Path] = []
    monkeypatch.setattr(
        subject,
        "download_results",
        lambda _target, _job, folder, **_settings: brought.append(folder),
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


def test_without_a_name_it_is_the_last_job_that_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    done = Commands(Done(JOB), monkeypatch).run("report", "--no-open")
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout.strip() == str(folder / "index.html")
    running = Done(JOB | {"TrainingJobStatus": "Stopping"})
    done = Commands(running, monkeypatch).run("report", "--no-open")
    assert "no training job has ended yet" in str(done.exception)


@dataclass
class Maker:
    """Makes a report of a folder, and remembers of which."""

    made: list[tuple[list[str], Path, dict[str, str]]] = field(default_factory=list)
    error: Exception | None = None

    def __call__(self, recording: Path, into: Path, parameters: dict[str, str]) -> Path:
        if self.error is not None:
            raise self.error
        held = sorted(str(p.relative_to(recording)) for p in recording.rglob("*") if p.is_file())
        self.made.append((held, into, dict(parameters)))
        into.mkdir(parents=True, exist_ok=True)
        (into / "profiler-report.html").write_text("<html>")
        return into / "profiler-report.html"


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    maker = Maker()
    monkeypatch.setattr(subject, "make_report", maker)
    return maker


def record(folder: Path) -> None:
    (folder / "output/data/profiler").mkdir()
    (folder / "output/data/profiler/job.json").write_text("{}")


def test_a_report_that_was_left_is_not_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    monkeypatch.chdir(folder.parent)
    record(folder)
    left = leave_report(folder)
    done = Commands(Done(JOB), monkeypatch).run("report", "first", "--no-open")
    assert done.exit_code == 0, (done.output, done.exception)
    assert maker.made == []
    assert f"profiler   {left.relative_to(folder.parent)}" in done.stderr


@pytest.mark.parametrize("words", [(), ("--rule-parameter", "BatchSize_patience=9")])
def test_a_report_is_made_of_what_was_recorded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder.parent)
    record(folder)
    if words:
        leave_report(folder)
    done = Commands(Done(JOB), monkeypatch).run("report", "first", "--no-open", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    ((held, into, parameters),) = maker.made
    assert "data/profiler/job.json" in held
    assert into == Path("first/report")
    assert parameters == ({"BatchSize_patience": "9"} if words else {})
    assert 'href="report/profiler-report.html"' in (folder / "index.html").read_text()


def test_what_awss_profiler_recorded_is_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    def fetch(_target: object, uri: str, into: Path) -> int:
        assert uri == "s3://bucket/p/first/profiler-output"
        into.mkdir(parents=True)
        (into / "a.json").write_text("{}")
        return 1

    monkeypatch.setattr(subject, "fetch_folder", fetch)
    monkeypatch.chdir(folder.parent)
    job = JOB | {"ProfilerConfig": {"S3OutputPath": "s3://bucket/p/"}}
    done = Commands(Done(job), monkeypatch).run("report", "first", "--no-open")
    assert done.exit_code == 0, (done.output, done.exception)
    assert maker.made[0][:2] == (["a.json"], Path("first/report"))


def test_the_page_comes_without_the_profilers_report_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    monkeypatch.chdir(folder.parent)
    record(folder)
    maker.error = UserError("pandas: not installed")
    berth = Commands(Done(JOB), monkeypatch)
    done = berth.run("report", "first", "--no-open")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "no report: pandas: not installed" in done.stderr
    done = berth.run("report", "first", "--no-open", "--rule-parameter", "BatchSize_patience=9")
    assert str(done.exception) == "pandas: not installed"


def test_thresholds_for_a_job_that_was_not_profiled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    monkeypatch.chdir(folder.parent)
    words = ("report", "first", "--no-open", "--rule-parameter", "BatchSize_patience=9")
    done = Commands(Done(JOB), monkeypatch).run(*words)
    assert str(done.exception) == "first: --rule-parameter: the job was not profiled"
    assert maker.made == []


def test_a_path_needs_no_sagemaker(
    folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker, opened: list[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    record(folder)
    with tarfile.open("first.tar.gz", "w:gz") as tar:
        tar.add(folder / "output/data", "data")
    berth = Commands(Done(JOB), monkeypatch)
    assert berth.run("report", "first.tar.gz").exit_code == 0
    assert berth.run("report", "./first", "--output-dir", "there").exit_code == 0
    assert berth.asked == []
    assert [into for _, into, _ in maker.made] == [Path("first-report"), Path("there")]
    assert all("data/profiler/job.json" in held for held, _, _ in maker.made)
    assert opened[1] == (folder.parent / "there/profiler-report.html").as_uri()


def test_a_folder_named_like_no_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    from botocore.exceptions import ClientError

    class Nothing(Done):
        def describe_training_job(self, **_arguments: str) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "ValidationException"}}, "Describe")

    monkeypatch.chdir(folder.parent)
    berth = Commands(Nothing(JOB), monkeypatch)
    assert berth.run("report", "first", "--no-open").exit_code == 0
    assert maker.made[0][1] == Path("first-report")
    assert "nothing of this name" in str(berth.run("report", "other", "--no-open").exception)


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
