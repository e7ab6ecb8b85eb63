"""MLflow runs in a real store."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from container.tracking.mlflow_run import (
    JOB,
    PARENT,
    MlflowRun,
    RunPlan,
    model_files,
    now,
    output_files,
)


@pytest.fixture
def plan(store: Any, tmp_path: Path) -> RunPlan:
    return RunPlan(
        uri=f"file://{tmp_path}/mlruns",
        experiment="flowers",
        experiment_id=None,
        name="job",
        job="arn:aws:sagemaker:us-east-1:123456789012:training-job/job",
        tuning_job=None,
        run_id=None,
        resumed=False,
    )


def opened(plan: RunPlan, **changes: Any) -> MlflowRun:
    run = MlflowRun(dataclasses.replace(plan, **changes))
    run.open()
    return run


def runs(store: Any, experiment: str = "flowers") -> list[Any]:
    found = store.get_experiment_by_name(experiment)
    return list(store.search_runs([found.experiment_id], order_by=["start_time ASC"]))


def test_a_run_has_its_jobs_name_and_parameters(store: Any, plan: RunPlan) -> None:
    many = {f"p{number}": str(number) for number in range(150)}
    run = opened(plan)
    assert run.log_parameters(many) == []
    run.log_metrics([(1, now(), {"train:loss": 0.5, "validation:loss": float("nan")})])
    run.end("FINISHED")
    (found,) = runs(store)
    assert (found.info.run_name, found.info.status) == ("job", "FINISHED")
    assert found.data.params == many
    assert found.data.metrics == {"train:loss": 0.5}
    assert run.steps("train:loss") == {1}


def test_reopening_continues_after_a_failure(
    store: Any, plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MlflowRun(plan)
    client = run.client
    monkeypatch.setattr(run, "_client", Failing(client, "create_run"))
    with pytest.raises(ConnectionError):
        run.open()
    monkeypatch.setattr(run, "_client", client)
    for _ in range(2):
        run.open()
    assert [found.info.run_id for found in runs(store)] == [run.id]


class Failing:
    """An MLflow client, one of whose methods cannot reach the server."""

    def __init__(self, client: Any, method: str) -> None:
        self.client, self.method = client, method

    def __getattr__(self, name: str) -> Any:
        if name == self.method:
            raise ConnectionError(name)
        return getattr(self.client, name)


@pytest.mark.parametrize(
    ("left", "resumed", "same"),
    [
        ("KILLED", True, True),
        ("KILLED", False, True),
        ("FAILED", False, True),
        ("FINISHED", True, True),
        ("FINISHED", False, False),
    ],
)
def test_an_interrupted_job_continues_its_run(
    left: str, resumed: bool, same: bool, store: Any, plan: RunPlan
) -> None:
    first = opened(plan)
    first.end(left)
    opened(plan, job="another")
    again = opened(plan, resumed=resumed)
    assert (again.id == first.id) is same
    assert store.get_run(again.id).info.status == "RUNNING"


def test_the_initial_parameters_of_a_run_are_kept(plan: RunPlan, store: Any) -> None:
    first = opened(plan)
    first.log_parameters({"epochs": "3"})
    first.end("KILLED")
    again = opened(plan)
    assert again.log_parameters({"epochs": "9", "seed": "1"}) == ["epochs=3 (now 9)"]
    assert store.get_run(again.id).data.params == {"epochs": "3", "seed": "1"}


def test_the_environment_may_name_the_run_and_the_experiment(store: Any, plan: RunPlan) -> None:
    experiment = store.create_experiment("given")
    given = store.create_run(experiment).info.run_id
    assert opened(plan, experiment_id=experiment, run_id=given).id == given
    trial = opened(plan, experiment_id=experiment, run_id=given, tuning_job="search")
    assert store.get_run(trial.id).data.tags[PARENT] == given


def test_trials_are_nested_in_one_run_of_their_tuning_job(store: Any, plan: RunPlan) -> None:
    trials = [
        opened(plan, job=f"trial {number}", name=f"trial-{number}", tuning_job="search")
        for number in range(3)
    ]
    for trial in trials:
        trial.end("FINISHED")
    found = runs(store)
    (parent,) = (run for run in found if JOB not in run.data.tags)
    assert (parent.info.run_name, parent.info.status) == ("search", "FINISHED")
    assert len(found) == 4
    children = [run for run in found if run is not parent]
    assert {run.data.tags[PARENT] for run in children} == {parent.info.run_id}


def test_trials_that_start_together_are_nested_in_one_run(
    store: Any, plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither finds the other's parent run, as when both search before either has created one."""
    first, second = (
        MlflowRun(dataclasses.replace(plan, job=name, name=name, tuning_job="search"))
        for name in ("first", "second")
    )
    with monkeypatch.context() as patch:
        patch.setattr(MlflowRun, "_search", lambda *_: [])
        first.open()
        second.open()
    assert len({store.get_run(run.id).data.tags[PARENT] for run in (first, second)}) == 2
    second.end("FINISHED")
    first.end("FINISHED")
    left = runs(store)
    (parent,) = (run.info.run_id for run in left if JOB not in run.data.tags)
    assert [run.data.tags[PARENT] for run in left if JOB in run.data.tags] == [parent, parent]


def test_files_are_logged_once(store: Any, plan: RunPlan, tmp_path: Path) -> None:
    data, model = tmp_path / "data", tmp_path / "model"
    for path in (data / "confusion.png", data / "report" / "a.html", data / "b.bin", model / "w"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (data / "link.png").symlink_to(tmp_path / "data" / "confusion.png")
    files = output_files(data) + model_files(model)
    run = opened(plan)
    assert [path.name for path in run.log_files(files)] == ["confusion.png", "a.html", "w"]
    for folder, names in (
        ("output", ["output/confusion.png", "output/report"]),
        ("output/report", ["output/report/a.html"]),
        ("model", ["model/w"]),
    ):
        assert [entry.path for entry in store.list_artifacts(run.id, folder)] == names
    (data / "confusion.png").unlink()
    assert len(list(run.log_files(files))) == 3


def test_an_experiment_created_first_by_another_trial_is_used(
    store: Any, plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MlflowRun(plan)
    create = run.client.create_experiment

    def late(name: str) -> Any:
        create(name)
        return create(name)

    monkeypatch.setattr(run.client, "create_experiment", late)
    run.open()
    assert len(runs(store)) == 1
