"""Training jobs on cached features: resuming after a stop, and two hosts."""

import signal
from collections.abc import Callable

import numpy as np
from safetensors.numpy import load

from tests.e2e.conftest import Job

UNEXPORTED = "unexported:main"
STEPS_PER_EPOCH = 12
FROZEN = {"freeze": True, "learning_rate": 0.01}
RANDOM = FROZEN | {
    "epochs": 40,
    "augment": "strong",
    "augment_views": 3,
    "mixup": 0.2,
    "dropout": 0.3,
    "ema": 0.9,
    "checkpoint_minutes": 1e-6,
}


def test_a_stopped_job_on_features_resumes_with_the_same_result(
    make_job: Callable[..., Job],
) -> None:
    whole = make_job("whole", RANDOM, UNEXPORTED)
    log = whole.run()
    assert "features of train images, view 3: 96 x 1024 float32" in log
    stopped = make_job("stopped", RANDOM, UNEXPORTED)
    process = stopped.start()
    stopped.wait_for_step(STEPS_PER_EPOCH + 5)
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 143, log
    log = stopped.run()
    assert "resuming from the checkpoint at epoch" in log
    assert "features of train images" not in log
    assert stopped.weights == whole.weights
    assert stopped.metrics == whole.metrics


def test_two_hosts_train_the_same_head_with_and_without_the_feature_cache(
    make_two_hosts: Callable[..., list[Job]],
) -> None:
    given = FROZEN | {"epochs": 3, "batch_size": 4, "augment": "none", "dropout": 0.2}
    found = {}
    for feature_cache in ("on", "off"):
        jobs = make_two_hosts(feature_cache, given | {"feature_cache": feature_cache})
        processes = [job.start() for job in jobs]
        logs = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], logs
        assert ("features of train images: 96 x 1024" in logs[0]) == (feature_cache == "on")
        if feature_cache == "on":
            files = [next(job.base.glob("features/*/features.json")).parent.name for job in jobs]
            assert files[0] == files[1], "each host has them"
        found[feature_cache] = jobs[0]
    weights = {name: load(job.weights) for name, job in found.items()}
    for name, tensor in weights["off"].items():
        np.testing.assert_allclose(weights["on"][name], tensor, atol=1e-4, rtol=0, err_msg=name)
    assert [one["validation:accuracy"] for one in found["on"].metrics] == [
        one["validation:accuracy"] for one in found["off"].metrics
    ]
