"""Training jobs on tar shards, in File and FastFile mode, on one host and on two."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Job
from tests.shards import shards_of

RUN = {"epochs": 3, "image_size": 72, "batch_size": 8, "checkpoint_minutes": 1e-6, "workers": 1}
"""Images of more than 64 pixels are read again in each epoch."""
STEPS_PER_EPOCH = 12


def shard(job: Job, stripes: Path, mode: str) -> Job:
    """Replace a job's channels with shards of the same images."""
    config = job.base / "input" / "config" / "inputdataconfig.json"
    config.write_text(
        json.dumps({name: {"TrainingInputMode": mode} for name in ("train", "validation")})
    )
    for name in ("train", "validation"):
        channel = job.base / "input" / "data" / name
        channel.unlink()
        shards_of(stripes / name, channel, 4)
    return job


def test_shards_and_their_folder_train_the_same_model(
    make_job: Callable[..., Job], stripes: Path
) -> None:
    folder = make_job("folder", RUN | {"epochs": 1})
    folder.run()
    sharded = shard(make_job("sharded", RUN | {"epochs": 1}), stripes, "File")
    sharded.run()
    assert sharded.weights == folder.weights
    assert sharded.metrics == folder.metrics
    reports = [
        json.loads((job.base / "output" / "data" / "evaluation.json").read_text())
        for job in (folder, sharded)
    ]
    assert reports[0]["accuracy"] == reports[1]["accuracy"]
    assert [report["golden"]["path"] for report in reports] == [
        "across/00.png",
        "0.tar!across/00.png",
    ]


def test_a_stopped_job_on_streamed_shards_resumes_with_the_same_result(
    make_job: Callable[..., Job], stripes: Path
) -> None:
    options = RUN | {"workers": 2, "augment": "strong", "ema": 0.9}
    whole = shard(make_job("whole", options, "unexported:main"), stripes, "FastFile")
    assert "has few classes" in whole.run(), "tar packs a folder class by class"
    stopped = shard(
        make_job("stopped", options | {"workers": 0}, "unexported:main"), stripes, "FastFile"
    )
    process = stopped.start()
    stopped.wait_for_step(STEPS_PER_EPOCH + 5)
    process.send_signal(signal.SIGTERM)
    log, _ = process.communicate(timeout=60)
    assert process.returncode == 143, log
    assert 0 < stopped.counters(stopped.steps()[-1])["batch"] < STEPS_PER_EPOCH
    assert "resuming from the checkpoint" in stopped.run()
    assert stopped.weights == whole.weights
    assert stopped.metrics == whole.metrics


def test_two_hosts_share_streamed_shards(make_two_hosts: Any, stripes: Path) -> None:
    jobs = [shard(job, stripes, "FastFile") for job in make_two_hosts("hosts", RUN)]
    processes = [job.start() for job in jobs]
    logs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], logs
    assert "2 processes" in logs[0]
    report = json.loads((jobs[0].base / "output" / "data" / "evaluation.json").read_text())
    assert report["images"] == 16
    assert jobs[0].steps()[-1] == 3 * STEPS_PER_EPOCH / 2
