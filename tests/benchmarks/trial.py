"""What a tuning trial costs beyond its training, as a process of the local SageMaker.

    python tests/benchmarks/trial.py [--rounds 5] [--images 5000]

Every round runs, in turn: Python importing torch and torchvision, which any trial must; the
image's bare `train` command in a folder prepared by hand; and the same job asked of the local
SageMaker with CreateTrainingJob, its images in S3. A trial's start is the time from the request
until the toolkit has imported the training code. What it costs beyond its training is its time from
request to Completed less the bare command's.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from PIL import Image

from local.emulator.credentials import credentials
from local.emulator.home import Home

BUCKET = "trials"
HYPERPARAMETERS = {
    "arch": "shufflenet_v2_x0_5",
    "weights": "none",
    "image_size": 32,
    "epochs": 1,
    "batch_size": 128,
    "workers": 0,
}
IMPORTED = "Imported framework"
"""What the toolkit logs once the training code is imported."""


def images(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        split = "validation" if number % 10 == 0 else "train"
        path = folder / split / f"class{number % 7}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "JPEG")


def request(name: str) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": "berth:latest", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::123456789012:role/berth",
        "HyperParameters": {key: str(value) for key, value in HYPERPARAMETERS.items()},
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://{BUCKET}/data/{channel}",
                    }
                },
            }
            for channel in ("train", "validation")
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }


class Trial:
    """A local SageMaker in a folder of its own, with the images in its S3."""

    def __init__(self, root: Path, data: Path, prefix: str = "data") -> None:
        self.home = root / "home"
        self.berth("up", "--executor", "process", "--port", "0")
        self._url = json.loads((self.home / "server.json").read_text())["url"]
        self.sagemaker, s3 = self._client("sagemaker"), self._client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for path in data.rglob("*.jpg"):
            s3.put_object(
                Bucket=BUCKET, Key=f"{prefix}/{path.relative_to(data)}", Body=path.read_bytes()
            )

    def berth(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "local.cli", *arguments],
            env=os.environ | {"BERTH_HOME": str(self.home)},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self._url,
            region_name="us-east-1",
            aws_access_key_id=credentials(Home(self.home)).key_id,
            aws_secret_access_key=credentials(Home(self.home)).secret,
        )

    def run(self, name: str) -> dict[str, float]:
        """Seconds to its start, in all, and by what the API calls each part."""
        asked = time.time()
        self.sagemaker.create_training_job(**request(name))
        while True:
            job = self.sagemaker.describe_training_job(TrainingJobName=name)
            if job["TrainingJobStatus"] != "InProgress":
                break
            time.sleep(0.02)
        took = time.time() - asked
        if job["TrainingJobStatus"] != "Completed":
            sys.exit(f"{name}: {job['FailureReason']}")
        events = self._client("logs").filter_log_events(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
        )["events"]
        imported = next(e["timestamp"] for e in events if IMPORTED in e["message"]) / 1000
        parts = {
            step["Status"].lower(): (step["EndTime"] - step["StartTime"]).total_seconds()
            for step in job["SecondaryStatusTransitions"]
            if step.get("EndTime")
        }
        return {"start": imported - asked, "trial": took} | parts


def seconds(command: list[str], variables: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    subprocess.run(
        command, env=os.environ | (variables or {}), check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def bare(base: Path, data: Path) -> float:
    """The train command in a tree prepared by hand."""
    shutil.rmtree(base, ignore_errors=True)
    (base / "input" / "config").mkdir(parents=True)
    shutil.copytree(data, base / "input" / "data", copy_function=os.link)
    files = {
        "hyperparameters": {name: str(value) for name, value in HYPERPARAMETERS.items()},
        "inputdataconfig": {"train": {}, "validation": {}},
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"]},
    }
    for name, value in files.items():
        (base / "input" / "config" / f"{name}.json").write_text(json.dumps(value))
    variables = {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_TRAINING_MODULE": "container.train:main",
    }
    return seconds([str(Path(sys.executable).parent / "train")], variables)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    options = parser.parse_args()
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images(root / "data", options.images)
        trial = Trial(root, root / "data")
        try:
            for number in range(options.rounds):
                found = {
                    "import": seconds([sys.executable, "-c", "import torch, torchvision"]),
                    "bare": bare(root / "bare", root / "data"),
                    **trial.run(f"trial-{number}"),
                }
                print({name: round(value, 2) for name, value in found.items()}, flush=True)
                for name, value in found.items():
                    figures.setdefault(name, []).append(value)
        finally:
            trial.berth("down")
    middle = {name: statistics.median(values) for name, values in figures.items()}
    starts = [a / b for a, b in zip(figures["start"], figures["import"], strict=True)]
    beyond = [a - b for a, b in zip(figures["trial"], figures["bare"], strict=True)]
    print(f"\n{options.rounds} rounds, {options.images} images; medians in seconds")
    for name, value in middle.items():
        print(f"  {name:12} {value:6.2f}")
    print(f"a trial's start / importing torch and torchvision: {statistics.median(starts):.2f}")
    print(f"what a trial costs beyond the train command: {statistics.median(beyond):.2f} s")


if __name__ == "__main__":
    main()
