import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.metrics.job import job_metrics
from container.monitoring.profiler.metrics.learning import learning_metrics
from container.monitoring.profiler.outcome import RuleOutcome, rule_rows, short, starved
from container.monitoring.profiler.outcome import fired as found_by
from container.monitoring.profiler.reading.text import natural
from container.rules.requests import RuleRequest
from tests.unit.container.monitoring.profiler.recorded import START, fired, recorded


def row(rows: Any, **wanted: Any) -> Any:
    return next(each for each in rows if wanted.items() <= each.items())


def test_the_parts_of_a_job_add_up_to_its_duration() -> None:
    found = job_metrics(recorded(durations=[0.5] * 20, outside={"export": 4}))
    parts = ("initialisation", "training_loop", "finalisation")
    assert [found[part]["seconds"] for part in parts] == pytest.approx([1, 10, 4.1])
    assert sum(found[part]["share"] for part in parts) == pytest.approx(1)


def test_missing_facts_are_derived_from_the_measurements() -> None:
    job = dataclasses.replace(recorded(durations=[0.5] * 20), job={})
    found = job_metrics(job)
    assert found["started"] == START + 1
    assert found["duration"] == pytest.approx(10)
    assert found["hosts"] == ["algo-1"]


def test_hosts_are_sorted_numerically() -> None:
    assert sorted(["algo-10", "algo-2", "algo-1"], key=natural) == ["algo-1", "algo-2", "algo-10"]


def test_statistics_of_a_node_are_over_the_mean_of_its_cores() -> None:
    job = recorded(use={"CPU": [0.0, 40.0] * 20, "memory": 30}, cores=4)
    system = job.system.copy()
    system.loc[system["name"] == "cpu0", "value"] *= 2
    rows = ProfileMetrics(dataclasses.replace(job, system=system)).system
    cpu = row(rows, metric="CPU")
    assert (cpu["samples"], cpu["max"], cpu["min"]) == (40, pytest.approx(50), 0)
    assert row(rows, metric="busiest core")["max"] == 80
    assert row(rows, metric="memory")["p50"] == 30
    assert [each["metric"] for each in rows] == ["CPU", "busiest core", "memory"]


def test_cores_sampled_slightly_apart_form_one_sample() -> None:
    job = recorded(use={"CPU": 50}, cores=4)
    dice = np.random.default_rng(0)
    system = job.system.assign(time=job.system["time"] + dice.uniform(0, 0.1, len(job.system)))
    rows = ProfileMetrics(dataclasses.replace(job, system=system)).system
    assert row(rows, metric="CPU")["samples"] == 40


def test_use_is_measured_only_during_training() -> None:
    # 200 steps of 0.1 s from second 1 of some 22: samples before and after do not count.
    use = [0.0] * 4 + [90.0] * 32 + [0.0] * 4
    figures = ProfileMetrics(recorded(use={"CPU": use}, job={"started": START - 1}))
    first, last = figures.job["training_started"], figures.job["training_ended"]
    assert (last - first) == pytest.approx(20)
    assert figures.use("CPU", "max") == 90
    assert row(figures.system, metric="CPU")["samples"] == 40
    assert row(figures.while_training, metric="CPU")["samples"] < 40


def test_phases_and_unaccounted_time() -> None:
    figures = ProfileMetrics(recorded(phases={"data": 0.2, "forward": 0.3, "backward": 0.4}))
    shares = {each["phase"]: each["share"] for each in figures.framework["phases"]}
    assert shares == pytest.approx(
        {"data": 0.2, "forward": 0.3, "backward": 0.4, "unaccounted": 0.1}
    )
    assert list(shares) == ["data", "forward", "backward", "unaccounted"]
    assert figures.framework["measured_by"] == "loop"
    assert figures.training_seconds == pytest.approx(20)


def test_ranks_work_in_parallel() -> None:
    figures = ProfileMetrics(recorded(ranks=4))
    assert figures.training_seconds == pytest.approx(20)
    assert row(figures.framework["phases"], phase="forward")["seconds"] == pytest.approx(6)
    assert len(figures.steps["by_rank"]) == 4


def test_phase_times_measured_on_the_gpu_replace_those_of_the_loop() -> None:
    # The loop launches quickly and waits for the GPU where it reads the loss.
    job = recorded(
        phases={"data": 0.5, "forward": 0.05, "backward": 0.05, "metrics": 0.4},
        job={"device": "NVIDIA T4"},
    )
    on_device = pd.DataFrame(
        [(0, phase, mode, step, seconds) for step in range(200) for phase, mode, seconds in (
            ("forward", "train", 0.03), ("backward", "train", 0.05), ("forward", "eval", 9.0))],
        columns=["rank", "phase", "mode", "step", "duration"],
    )  # fmt: skip
    framework = ProfileMetrics(dataclasses.replace(job, on_device=on_device)).framework
    shares = {each["phase"]: each["share"] for each in framework["phases"]}
    assert shares == pytest.approx({"data": 0.2, "forward": 0.3, "backward": 0.5, "metrics": 0})
    assert framework["measured_by"] == "GPU"
    (forward,) = (each for each in framework["phases"] if each["phase"] == "forward")
    assert forward["median"] == pytest.approx(0.03)


def test_outliers_and_their_cost() -> None:
    found = ProfileMetrics(recorded(durations=[0.1] * 195 + [1.0] * 5)).steps
    assert (found["steps"], found["outliers"]) == (200, 5)
    assert found["excess"] == pytest.approx(4.5)
    assert found["blame"]["phase"] == "backward"
    assert [each["step"] for each in found["longest"]] == [195, 196, 197, 198, 199]


def test_learning() -> None:
    epochs = pd.DataFrame(
        {"epoch": [1, 2, 3], "validation:accuracy": [0.4, 0.6, 0.6], "validation:loss": [2, 1, 0.9]}
    )
    curves = pd.DataFrame({"loss": [3.0] * 5 + [float("nan")] + [1.0] * 14})
    found = learning_metrics(curves, epochs)
    assert (found["best_epoch"], found["lowest_loss_epoch"]) == (2, 3)
    assert (found["loss"]["first"], found["loss"]["last"]) == (3, 1)
    assert found["not_finite"] == 1
    assert found["gradient_norm"] is None


def test_rules_are_sorted_by_how_often_they_fired() -> None:
    request = RuleRequest("BatchSize", "mine", {"patience": 1000})
    few = RuleOutcome(request, "too few", datapoints=120, needed=1000, judged=False)
    none = RuleOutcome(RuleRequest("LoadBalancing", "LoadBalancing"), "one GPU", judged=False)
    summed = RuleOutcome(RuleRequest("ProfilerReport", "ProfilerReport"), "sum", triggered=9)
    rows = rule_rows([few, none, summed], [fired("DeadRelu", steps=[1, 2]), {"Rule": "Own"}])
    assert [each["name"] for each in rows] == ["DeadRelu", "mine", "LoadBalancing", "Own"]
    assert (short(rows[1]), short(rows[2]), starved(rows[2])) == (True, False, True)
    assert rows[0]["kind"] == "debugger"
    assert rows[0]["moments"] == [START + 5]
    assert found_by(rows, "Overfit", "DeadRelu")["name"] == "DeadRelu"
    assert found_by(rows, "BatchSize") is None


def test_a_debugger_rule_without_data_has_not_judged() -> None:
    status = fired("SaturatedActivation") | {
        "RuleEvaluationStatus": "NoIssuesFound", "StatusDetails": "", "Points": 0, "Triggered": 0,
    }  # fmt: skip
    (row,) = rule_rows([], [status])
    assert starved(row)
    assert row["reason"] == "nothing that it watches was recorded"


def test_a_debugger_status_of_any_shape_is_read() -> None:
    rows = rule_rows([], [{
        "RuleConfigurationName": "X", "RuleEvaluationStatus": "IssuesFound", "Steps": "none",
        "Times": [True, "x"], "Triggered": "many", "Parameters": 3,
        "LastModifiedTime": "2023-11-14T22:20:00+00:00",
    }])  # fmt: skip
    assert rows[0]["triggered"] == 1
    assert rows[0]["moments"] == [1700000400.0]
    assert rows[0]["parameters"] == {}
