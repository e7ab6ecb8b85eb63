"""Whole training jobs, run in the test's own process."""

import signal

import pytest

from container import train
from tests.trees import write_tree

TINY = {
    "arch": "shufflenet_v2_x0_5",
    "weights": "none",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 1,
    "learning_rate": 0.01,
    "workers": 0,
}


@pytest.fixture
def _restore_signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def job(tmp_path, monkeypatch, image_folder, _restore_signals):
    """A function that runs a job on the coloured images and gives its tree."""
    base = tmp_path / "ml"
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(channels=("train", "validation"), data=image_folder, **hyperparameters):
        (base / "input" / "data").mkdir(parents=True, exist_ok=True)
        for channel in channels:
            link = base / "input" / "data" / channel
            if not link.exists():
                link.symlink_to(data / channel)
        write_tree(base, list(channels), TINY | hyperparameters)
        train.main()
        return base

    run.base = base
    return run
