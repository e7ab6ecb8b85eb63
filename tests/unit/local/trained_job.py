"""A training job that ended, and the output of our image."""

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
    """Write the output of our image to a job's folder."""
    data = folder / "output" / "data"
    data.mkdir(parents=True)
    row = {"precision": 1.0, "recall": 0.9, "f1": 0.947, "support": 20}
    cost = {"images": 40, "float32_accuracy": 0.925, "same_label": 0.975, "max_difference": 0.031}
    report = {
        "split": "test",
        "images": 40,
        "accuracy": 0.925,
        "top5": 1.0,
        "best_epoch": 2,
        "classes": {"cat": row, EVIL: row},
        "precisions": {
            "bfloat16": cost | {"accuracy": 0.925},
            "int8": cost | {"accuracy": 0.9, "tolerance": 0.5, "calibration_images": 128},
        },
    }
    (data / "evaluation.json").write_text(json.dumps(report))
    epochs = [{"epoch": n, "validation:accuracy": n / 9} for n in (1, 2)]
    (data / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in epochs))
    for name in ("confusion.png", "curves.png", "other.png"):
        (data / name).write_bytes(PNG)


FIT = {
    "chosen": "probe resnet18 at 224 px",
    "minutes": 5.0,
    "used_minutes": 4.5,
    "leaderboard": [
        {
            "name": "probe resnet18 at 224 px",
            "accuracy": 0.92,
            "interval": [0.88, 0.95],
            "how": "244 images, 5-fold cross-validation",
            "seconds": 66,
            "detail": "L2 strength 0.1",
            "chosen": True,
        },
        {
            "name": "fine-tuned resnet18 at 224 px",
            "accuracy": 0.9,
            "interval": [0.79, 0.95],
            "how": "49 validation images",
            "seconds": 240,
            "detail": "round 1",
            "chosen": False,
        },
    ],
    "choices": [{"what": "augment=standard", "why": "mirrored images are known as well"}],
    "advice": "twice the photographs of 'bees' would help most",
    "no_curve": "",
}
"""What a fit job found, as its `fit.json` has it."""
