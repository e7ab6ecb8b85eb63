"""Writes a training job's /opt/ml as SageMaker would."""

import json
from collections.abc import Mapping
from pathlib import Path


def write_tree(base: Path, channels: list[str], hyperparameters: Mapping[str, object]) -> None:
    """Write a training job's configuration; the data belongs in `base/input/data/<channel>`."""
    config = base / "input" / "config"
    config.mkdir(parents=True, exist_ok=True)
    files = {
        "hyperparameters": {name: str(value) for name, value in hyperparameters.items()},
        "inputdataconfig": {name: {"TrainingInputMode": "File"} for name in channels},
        "resourceconfig": {
            "current_host": "algo-1",
            "hosts": ["algo-1"],
            "network_interface_name": "lo",
        },
    }
    for name, value in files.items():
        (config / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
