"""Distributed training on two hosts, which are two loopback addresses of one machine."""

import json
import signal
from typing import Any

import pytest

RUN = {"epochs": 3, "batch_size": 4, "ema": 0.5, "augment": "standard", "checkpoint_minutes": 1e-6}


def run_both(jobs: Any) -> Any:
    processes = [job.start() for job in jobs]
    logs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], logs
    return logs


def test_two_hosts_train_one_model_and_resume_after_a_stop(make_two_hosts: Any) -> None:
    whole = make_two_hosts("whole", RUN)
    logs = run_both(whole)
    assert "2 processes" in logs[0]
    assert "epoch=3; " in logs[0]
    assert "epoch=3; " not in logs[1], "only rank 0 reports"
    first, second = whole
    assert not (second.base / "model").exists() or not list((second.base / "model").iterdir())
    report = json.loads((first.base / "output" / "data" / "evaluation.json").read_text())
    assert report["images"] == 16

    stopped = make_two_hosts("stopped", RUN)
    processes = [job.start() for job in stopped]
    stopped[0].wait_for_step(8)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    logs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], logs
    assert len(stopped[0].metrics) < 3, "it was stopped too late to show anything"
    logs = run_both(stopped)
    assert "resuming from the checkpoint" in logs[0]
    assert stopped[0].weights == first.weights
    assert stopped[0].metrics == first.metrics


def test_two_hosts_get_the_same_metrics_from_accumulated_and_larger_batches(
    make_two_hosts: Any,
) -> None:
    same = {"augment": "none", "optimizer": "sgd", "freeze_batch_norm": True, "gradient_clip": 1}
    whole = make_two_hosts("whole", RUN | same | {"batch_size": 20})
    run_both(whole)
    parts = make_two_hosts(
        "parts", RUN | same | {"batch_size": 10, "gradient_accumulation_steps": 2}
    )
    run_both(parts)
    assert parts[0].steps()[-1] == whole[0].steps()[-1] == 9
    for one, other in zip(parts[0].metrics, whole[0].metrics, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_an_invalid_hyperparameter_fails_both_hosts_and_is_named(make_two_hosts: Any) -> None:
    jobs = make_two_hosts("failing", RUN | {"arch": "resnet19"})
    processes = [job.start() for job in jobs]
    logs = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], logs
    assert jobs[0].failure.startswith("hyperparameter 'arch': 'resnet19' is not")
