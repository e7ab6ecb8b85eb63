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
from tests.unit.local.trained_job import JOB


def leave_report(job_folder: Path, sentence: str = "The GPU waits.") -> Path:
    page = job_folder / "output/data/report/profiler-report.html"
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
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.chdir(job_folder.parent)
    target = Done(JOB)
    done = Commands(target, monkeypatch).run("report", "first")
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout.strip() == str(job_folder / "index.html")
    assert opened == [(job_folder / "index.html").as_uri()]
    assert "s3" not in target.asked  # local files are not downloaded again


def test_outputs_are_downloaded_first(
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


def test_without_a_name_the_last_ended_job_is_reported(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(job_folder.parent)
    done = Commands(Done(JOB), monkeypatch).run("report", "--no-open")
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout.strip() == str(job_folder / "index.html")
    running = Done(JOB | {"TrainingJobStatus": "Stopping"})
    done = Commands(running, monkeypatch).run("report", "--no-open")
    assert "no training job has ended yet" in str(done.exception)


@dataclass
class Maker:
    """Makes reports of folders, and records which."""

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


def record(job_folder: Path) -> None:
    (job_folder / "output/data/profiler").mkdir()
    (job_folder / "output/data/profiler/job.json").write_text("{}")


def test_a_report_in_the_jobs_output_is_not_made_again(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    monkeypatch.chdir(job_folder.parent)
    record(job_folder)
    left = leave_report(job_folder)
    done = Commands(Done(JOB), monkeypatch).run("report", "first", "--no-open")
    assert done.exit_code == 0, (done.output, done.exception)
    assert maker.made == []
    assert f"profiler   {left.relative_to(job_folder.parent)}" in done.stderr


@pytest.mark.parametrize("words", [(), ("--rule-parameter", "BatchSize_patience=9")])
def test_a_report_is_made_from_the_recording(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(job_folder.parent)
    record(job_folder)
    if words:
        leave_report(job_folder)
    done = Commands(Done(JOB), monkeypatch).run("report", "first", "--no-open", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    ((held, into, parameters),) = maker.made
    assert "data/profiler/job.json" in held
    assert into == Path("first/report")
    assert parameters == ({"BatchSize_patience": "9"} if words else {})
    assert 'href="report/profiler-report.html"' in (job_folder / "index.html").read_text()


def test_the_recording_of_awss_profiler_is_downloaded(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    def fetch(_target: object, uri: str, into: Path) -> int:
        assert uri == "s3://bucket/p/first/profiler-output"
        into.mkdir(parents=True)
        (into / "a.json").write_text("{}")
        return 1

    monkeypatch.setattr(subject, "fetch_folder", fetch)
    monkeypatch.chdir(job_folder.parent)
    job = JOB | {"ProfilerConfig": {"S3OutputPath": "s3://bucket/p/"}}
    done = Commands(Done(job), monkeypatch).run("report", "first", "--no-open")
    assert done.exit_code == 0, (done.output, done.exception)
    assert maker.made[0][:2] == (["a.json"], Path("first/report"))


def test_the_page_is_written_without_the_profilers_report_too(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    monkeypatch.chdir(job_folder.parent)
    record(job_folder)
    maker.error = UserError("pandas: not installed")
    berth = Commands(Done(JOB), monkeypatch)
    done = berth.run("report", "first", "--no-open")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "no report: pandas: not installed" in done.stderr
    done = berth.run("report", "first", "--no-open", "--rule-parameter", "BatchSize_patience=9")
    assert str(done.exception) == "pandas: not installed"


def test_thresholds_without_a_recording_are_refused(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    monkeypatch.chdir(job_folder.parent)
    words = ("report", "first", "--no-open", "--rule-parameter", "BatchSize_patience=9")
    done = Commands(Done(JOB), monkeypatch).run(*words)
    assert str(done.exception) == "first: --rule-parameter: the job was not profiled"
    assert maker.made == []


def test_a_path_needs_no_sagemaker(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker, opened: list[str]
) -> None:
    monkeypatch.chdir(job_folder.parent)
    record(job_folder)
    with tarfile.open("first.tar.gz", "w:gz") as tar:
        tar.add(job_folder / "output/data", "data")
    berth = Commands(Done(JOB), monkeypatch)
    assert berth.run("report", "first.tar.gz").exit_code == 0
    assert berth.run("report", "./first", "--output-dir", "there").exit_code == 0
    assert berth.asked == []
    assert [into for _, into, _ in maker.made] == [Path("first-report"), Path("there")]
    assert all("data/profiler/job.json" in held for held, _, _ in maker.made)
    assert opened[1] == (job_folder.parent / "there/profiler-report.html").as_uri()


def test_a_folder_of_an_unknown_job_is_reported(
    job_folder: Path, monkeypatch: pytest.MonkeyPatch, maker: Maker
) -> None:
    from botocore.exceptions import ClientError

    class Nothing(Done):
        def describe_training_job(self, **_arguments: str) -> dict[str, Any]:
            raise ClientError({"Error": {"Code": "ValidationException"}}, "Describe")

    monkeypatch.chdir(job_folder.parent)
    berth = Commands(Nothing(JOB), monkeypatch)
    assert berth.run("report", "first", "--no-open").exit_code == 0
    assert maker.made[0][1] == Path("first-report")
    assert "other: not found" in str(berth.run("report", "other", "--no-open").exception)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_tuning_job_has_a_page(
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
