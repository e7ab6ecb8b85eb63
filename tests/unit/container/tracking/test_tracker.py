"""Complete jobs that log to MLflow, and servers that do not respond."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from container.environment import Environment
from container.errors import JobEnded
from container.hyperparameters import Hyperparameters
from container.tracking import tracker
from container.tracking.mlflow_run import PARENT, RunPlan
from container.tracking.tracker import MlflowTracker, Tracker, make_tracker
from container.training import trainer
from tests.trees import write_tree
from tests.unit.container.modules import imported_anew


def runs(store: Any, experiment: str) -> list[Any]:
    found = store.get_experiment_by_name(experiment)
    return list(store.search_runs([found.experiment_id], order_by=["start_time ASC"]))


def steps(store: Any, run: Any, metric: str) -> list[int]:
    return sorted(entry.step for entry in store.get_metric_history(run.info.run_id, metric))


def test_a_job_logs_its_parameters_metrics_and_files(
    job: Any, store: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "flowers-1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "flowers")
    job(epochs=2)
    (run,) = runs(store, "flowers")
    assert (run.info.run_name, run.info.status) == ("flowers-1", "FINISHED")
    assert run.data.params["epochs"] == "2"
    assert run.data.params["batch_size"] == "8"
    assert steps(store, run, "train:loss") == steps(store, run, "validation:accuracy") == [1, 2]
    logged = {
        entry.path
        for folder in ("model", "output")
        for entry in store.list_artifacts(run.info.run_id, folder)
    }
    assert logged >= {"model/model.json", "model/model.safetensors", "output/confusion.png"}
    assert f"MLflow: run {run.info.run_id} of experiment flowers" in capsys.readouterr().out


def test_metrics_of_a_test_channel_belong_to_the_model(
    job: Any, store: Any, monkeypatch: pytest.MonkeyPatch, image_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "search-001-0123abcd")
    for split, source in (("train", "train"), ("validation", "validation"), ("test", "validation")):
        (tmp_path / "data" / split).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / split).symlink_to(image_folder / source)
    job(
        ("train", "validation", "test"),
        tmp_path / "data",
        _tuning_objective_metric="validation:accuracy",
    )
    parent, trial = runs(store, "search")
    assert parent.info.run_name == "search"
    assert trial.info.run_name == "search-001-0123abcd"
    assert trial.data.tags[PARENT] == parent.info.run_id
    assert 0 <= trial.data.metrics["test:accuracy"] <= 1
    assert steps(store, trial, "test:accuracy") == [1]


def test_features_are_not_logged_as_a_model(
    job: Any, store: Any, monkeypatch: pytest.MonkeyPatch, image_folder: Path
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "search-features")
    base = job(freeze=True, features_only=True)
    assert (base / "model" / "features").is_dir()
    (run,) = runs(store, "search-features")
    assert run.info.status == "FINISHED"
    assert run.data.params["features_only"] == "True"
    assert store.list_artifacts(run.info.run_id, "model") == []


def test_a_job_that_is_not_a_trial_has_no_parent_run(
    job: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "search-001-0123abcd")
    job()
    (run,) = runs(store, "search-001-0123abcd")
    assert PARENT not in run.data.tags


def test_an_interrupted_job_ends_in_the_run_it_started(
    job: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "stopped")
    validate = trainer.Trainer._validate

    def stopping(self: Any, network: Any) -> Any:
        measured = validate(self, network)
        os.kill(os.getpid(), signal.SIGTERM)
        return measured

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_validate", stopping)
        with pytest.raises(JobEnded):
            job(epochs=3)
    (run,) = runs(store, "stopped")
    assert run.info.status == "KILLED"
    assert steps(store, run, "train:loss") == [1]
    job(epochs=3)
    (run,) = runs(store, "stopped")
    assert run.info.status == "FINISHED"
    assert steps(store, run, "train:loss") == [1, 2, 3]


def test_a_job_that_fails_ends_its_run(
    job: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "failed")
    with pytest.raises(JobEnded):
        job(channels=("validation",))
    (run,) = runs(store, "failed")
    assert run.info.status == "FAILED"


def test_an_unreachable_server_logs_two_lines_without_secrets(
    job: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:hunter2@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    base = job()
    assert (base / "model" / "model.json").exists()
    said = capfd.readouterr()
    about = [line for line in said.out.splitlines() if "MLflow" in line]
    assert len(about) == 2, about
    assert f"logging to http://127.0.0.1:{port} failed" in about[0]
    assert about[1] == (
        "warning: MLflow: not logged: the hyperparameters, metrics of epoch 1, "
        "pages and charts, the model"
    )
    assert "hunter2" not in said.out + said.err


def test_mlflow_is_not_imported_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with imported_anew("mlflow", "container"):
        import container.train

        assert container.train
        assert "mlflow" not in sys.modules


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path, ("algo-1",), "algo-1", "lo", "job")


def test_only_the_first_rank_logs(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    other = make_tracker(environment, Hyperparameters(), main=False, say=pytest.fail)
    assert type(other) is Tracker


def test_an_image_without_mlflow_reports_that(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    said: list[str] = []
    with imported_anew("mlflow"):
        monkeypatch.delitem(sys.modules, "container.tracking.mlflow_run")
        monkeypatch.setitem(sys.modules, "mlflow", None)
        made = make_tracker(environment, Hyperparameters(), main=True, say=said.append)
        monkeypatch.undo()
    assert type(made) is Tracker
    (line,) = said
    assert "mlflow is not installed: install it with: pip install 'berth-vision[image]'" in line


class FakeRun:
    """A run on a server that may be unreachable; the first `failures` calls fail."""

    def __init__(self, failures: int = 0) -> None:
        self.plan = RunPlan(
            "http://bob:hunter2@host", "flowers", None, "job", "arn", None, None, False
        )
        self.failures, self.id = failures, "1234"
        self.logged: list[Any] = []
        self.tried, self.back = threading.Event(), threading.Event()
        self.back.set()

    def open(self) -> None:
        self.tried.set()
        self.back.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("http://bob:hunter2@host is away")

    def log_parameters(self, parameters: dict[str, str]) -> list[str]:
        self.logged.append(("epochs", parameters["epochs"]))
        return []

    def log_metrics(self, metrics: list[Any]) -> None:
        self.logged += [(step, dict(values)) for step, _, values in metrics]

    def steps(self, _metric: str) -> set[int]:
        return {1}

    def log_files(self, files: Any) -> Any:
        yield from (path for path, _ in files)

    def end(self, status: str) -> None:
        self.logged.append(status)


def test_a_server_that_recovers_receives_everything(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    run = FakeRun(failures=2)
    logging = MlflowTracker(run, environment, said.append)  # type: ignore[arg-type]
    logging.parameters(Hyperparameters(epochs=3))
    assert run.tried.wait(20)
    logging.restore([{"epoch": 1, "train:loss": 3.0}, {"epoch": 2, "train:loss": None}])
    logging.epoch({"epoch": 3, "train:loss": 1.0})
    logging.final({"test:accuracy": 0.5})
    monkeypatch.setattr(tracker, "RETRY_SECONDS", 0.01)
    run.failures = 0
    logging.end("FINISHED")
    assert run.logged == [
        ("epochs", "3"),
        (2, {}),
        (3, {"train:loss": 1.0}),
        (3, {"test:accuracy": 0.5}),
        "FINISHED",
    ]
    warning, opened = said
    assert "logging to http://host failed" in warning
    assert "hunter2" not in warning
    assert opened == "MLflow: run 1234 of experiment flowers at http://host"


@pytest.mark.parametrize(
    ("status", "limit"), [("FINISHED", "LAST_SECONDS"), ("KILLED", "INTERRUPTED_SECONDS")]
)
def test_a_server_that_never_responds_does_not_delay_the_end(
    status: str, limit: str, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, limit, 0.05)
    said: list[str] = []
    run = FakeRun()
    run.back.clear()
    logging = MlflowTracker(run, environment, said.append)  # type: ignore[arg-type]
    logging.parameters(Hyperparameters())
    for epoch in (1, 2):
        logging.epoch({"epoch": epoch, "train:loss": 1.0})
    logging.end(status)
    run.back.set()
    assert said[0] == "warning: MLflow: not logged: the hyperparameters, metrics of epochs 1 to 2"


BOTH = """
from container.environment import Environment, read_hyperparameters
from container.monitoring.debugger.smdebug_install import prepare
from container.tracking.tracker import make_tracker

environment = Environment.read()
make_tracker(environment, read_hyperparameters(environment), main=True, say=print)
prepare()
"""


def test_a_job_may_use_mlflow_and_the_debugger(tmp_path: Path) -> None:
    """smdebug needs protobuf's Python implementation, and MLflow imports protobuf first."""
    write_tree(tmp_path, ["train"], {})
    (tmp_path / "input" / "data" / "train").mkdir(parents=True)
    environ = {**os.environ, "SAGEMAKER_BASE_DIR": str(tmp_path)}
    environ |= {"MLFLOW_TRACKING_URI": f"file://{tmp_path}/runs", "MLFLOW_ALLOW_FILE_STORE": "true"}
    del environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"]
    done = subprocess.run([sys.executable, "-c", BOTH], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
