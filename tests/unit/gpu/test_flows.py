"""The flows of `make gpu`, on a CPU and without what a machine with a GPU may lack."""

import os
from pathlib import Path

import pytest

from tests.gpu import flows

TINY = {"arch": "shufflenet_v2_x0_5", "image_size": 32, "batch_size": 16, "workers": 0}
ABSENT = (
    "flask",
    "gunicorn",
    "mlflow",
    "openvino",
    "plotly",
    "sagemaker_training",
    "smdebug",
    "timm",
)
"""What `python -m container.train` can do without."""


def test_a_job_is_interrupted_goes_on_and_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "DEFAULTS", {**flows.DEFAULTS, **TINY})
    monkeypatch.setattr(flows, "PICTURES", {"train": 16, "validation": 4})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("SM_CURRENT_HOST", raising=False)  # set by a job in this process
    base, hidden = tmp_path / "job", tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n"
    )
    flows.write_job(base, {"epochs": 500})
    with monkeypatch.context() as patch:
        before = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(hidden), before])))
        assert "resuming" not in flows.interrupt(base, "epoch=1;")
        (*_, last) = sorted((base / "checkpoints").glob("checkpoint-*.json"))
        step = int(last.stem.rpartition("-")[2])
        flows.configure(base, {"epochs": step // 3 + 1})
        trained = flows.train(base)
    assert "resuming from the checkpoint" in trained.log
    assert "sagemaker_training" in trained.log, "the modules are hidden"
    assert [record["epoch"] for record in trained.epochs] == list(range(1, step // 3 + 2))
    assert trained.device.startswith("cpu")
    assert 0 <= trained.accuracy <= 1
    picture, expected = flows.golden(base)
    with flows.serve(base) as address:
        assert flows.ask(address, picture) == pytest.approx(expected, abs=1e-4)


def test_a_job_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    flows.write_job(tmp_path, {"arch": "resnet19"})
    with pytest.raises(AssertionError, match="'resnet19'"):
        flows.train(tmp_path)
