"""A job that is stopped or killed and then restarted ends with the result of an unstopped job."""

import json
import signal
import time
from collections.abc import Callable

from tests.e2e.conftest import Job

RANDOM = {
    "epochs": 3,
    "augment": "strong",
    "mixup": 0.2,
    "cutmix": 0.5,
    "dropout": 0.3,
    "ema": 0.9,
    "learning_rate": 0.004,
    "warmup_epochs": 0.5,
    "gradient_clip": 1,
    "checkpoint_minutes": 1e-6,
}
"""All options that draw random numbers or keep state; a checkpoint after every step."""
UNEXPORTED = "unexported:main"
STEPS_PER_EPOCH = 12
MID_EPOCH = STEPS_PER_EPOCH + 5


def test_a_job_resumes_with_the_same_result_after_sigterm_or_sigkill(
    make_job: Callable[..., Job],
) -> None:
    whole = make_job("whole", RANDOM, UNEXPORTED)
    whole.run()

    stopped = make_job("stopped", RANDOM, UNEXPORTED)
    process = stopped.start()
    stopped.wait_for_step(MID_EPOCH)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 143, log
    assert time.monotonic() - asked < 60, "SageMaker kills after 120 s"
    assert stopped.failure.startswith("stopped by SIGTERM at epoch 2, step ")
    step = stopped.steps()[-1]
    assert 0 < stopped.counters(step)["batch"] < STEPS_PER_EPOCH, "not in the middle of an epoch"

    killed = make_job("killed", RANDOM, UNEXPORTED)
    process = killed.start()
    killed.wait_for_step(MID_EPOCH)
    process.kill()
    process.communicate()
    assert killed.counters(killed.steps()[-1])["epoch"] == 1

    for job in (stopped, killed):
        assert "resuming from the checkpoint at epoch 2" in job.run()
        assert job.weights == whole.weights
        assert job.metrics == whole.metrics


def test_a_job_stopped_between_accumulated_batches_resumes_with_the_same_result(
    make_job: Callable[..., Job],
) -> None:
    options = RANDOM | {"epochs": 10, "gradient_accumulation_steps": 5}
    whole = make_job("whole", options, UNEXPORTED)
    whole.run()

    stopped = make_job("stopped", options, UNEXPORTED)
    process = stopped.start()
    stopped.wait_for_step(4)
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 143, log
    step = stopped.steps()[-1]
    assert step < 30
    assert stopped.counters(step)["batch"] in (0, 5, 10), "a step has five batches, or the last two"
    assert "resuming from the checkpoint" in stopped.run()
    assert stopped.weights == whole.weights
    assert stopped.metrics == whole.metrics
    assert whole.steps()[-1] == 30


def test_a_stopped_job_writes_its_current_model(make_job: Callable[..., Job]) -> None:
    job = make_job("job", {"epochs": 500})
    process = job.start()
    job.wait_for_step(2 * STEPS_PER_EPOCH)
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 143, log
    assert len(job.weights) > 1_000_000
    assert not (job.base / "model" / "openvino").exists()


def test_a_job_resumes_from_the_checkpoint_before_a_corrupt_one(
    make_job: Callable[..., Job],
) -> None:
    whole = make_job("whole", {"epochs": 2}, UNEXPORTED)
    whole.run()
    job = make_job("job", {"epochs": 2, "checkpoint_minutes": 1e-6}, UNEXPORTED)
    process = job.start()
    job.wait_for_step(STEPS_PER_EPOCH + 3)
    process.kill()
    process.communicate()
    last = job.steps()[-1]
    path = job.base / "checkpoints" / f"checkpoint-{last:08d}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    log = job.run()
    assert f"{path.name} is corrupt" in log
    assert f"resuming from the checkpoint at epoch 2, step {last - 1}" in log
    assert job.weights == whole.weights


def test_a_finished_job_does_not_train_again_when_restarted(make_job: Callable[..., Job]) -> None:
    job = make_job("job", {"epochs": 1}, UNEXPORTED)
    job.run()
    before = job.weights
    # A checkpoint of an older version, which had fewer hyperparameters.
    (path,) = (job.base / "checkpoints").glob("checkpoint-*.json")
    stored = json.loads(path.read_text())
    del stored["run"]["gradient_accumulation_steps"]
    path.write_text(json.dumps(stored))
    log = job.run()
    assert f"step {STEPS_PER_EPOCH}" in log
    assert "epoch=2" not in log
    assert job.weights == before
