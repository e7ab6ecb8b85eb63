"""An MLflow tracking store in a folder, which needs no server."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return MLflow's client of the store that `MLFLOW_TRACKING_URI` names."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    for name in ("EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID"):
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    from mlflow import MlflowClient

    return MlflowClient(f"file://{tmp_path}/mlruns")
