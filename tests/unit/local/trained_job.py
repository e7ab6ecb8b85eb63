"""A training job that ended, and what our image leaves of it."""

import json
from pathlib import Path
from typing import Any

PNG = b"\x89PNG a picture"
EVIL = "<img src=x onerror=alert(1)>"
JOB: dict[str, Any] = {
    "TrainingJobName": "first",
    "TrainingJobStatus": "Completed",
    "SecondaryStatus": "Completed",
    "HyperParameters": {"epochs": "2", "arch": '"resnet18"', "note": EVIL},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    "AlgorithmSpecification": {"TrainingImage": "berth:latest"},
    "TrainingTimeInSeconds": 90,
    "BillableTimeInSeconds": 30,
    "FinalMetricDataList": [{"MetricName": "validation:accuracy", "Value": 0.9}],
}


def write_job(folder: Path) -> None:
    """Write what our image leaves to a job's folder."""
    data = folder / "output" / "data"
    data.mkdir(parents=True)
    row = {"precision": 1.0, "recall": 0.9, "f1": 0.947, "support": 20}
    report = {
        "split": "test",
        "images": 40,
        "accuracy": 0.925,
        "top5": 1.0,
        "best_epoch": 2,
        "classes": {"cat": row, EVIL: row},
    }
    (data / "evaluation.json").write_text(json.dumps(report))
    epochs = [{"epoch": n, "validation:accuracy": n / 9} for n in (1, 2)]
    (data / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in epochs))
    for name in ("confusion.png", "curves.png", "other.png"):
        (data / name).write_bytes(PNG)
