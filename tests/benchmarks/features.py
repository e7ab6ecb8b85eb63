"""What features once are worth: by epoch, by image, and over a whole tuning job.

    python tests/benchmarks/features.py PHOTOS [--trials 20] [--rounds 3] [--images 512]
                                        [--only epoch|pass|tuning] [--arch efficientnet_lite0]

PHOTOS holds train/<class>/ and validation/<class>/, for the figures in docs/features.md the first
160 and 40 CIFAR-10 images of each class. In one run, in turn:

epoch   a frozen epoch through the backbone, and one on features, as the log of a whole job has them
pass    the pass that computes features, and, alone, its decoding and its engine on as many threads
tuning  a tuning job of the local SageMaker with feature_cache=on, and with off
"""

import argparse
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from trial import Trial, request

from container.architectures import build_network
from container.cpus import available_cpus
from container.data.index import Index
from container.data.loader import EpochLoader
from container.features.cache import FeatureCache
from container.features.extraction import FeatureExtractor
from container.files.json_files import to_json
from container.hyperparameters import Hyperparameters
from container.images.geometry import Geometry
from container.models import Classifier
from container.training.weights import Initialization, fit_weights

SIZE = 224
FROZEN = {"freeze": "true", "augment": "none", "image_size": str(SIZE), "epochs": "3"}
WEIGHTS = {"efficientnet_lite0": "imagenet"}
"""Those at hand without a network; of others the backbone is random, which costs as much."""


def hyperparameters(arch: str, **given: str) -> dict[str, str]:
    return FROZEN | {"arch": arch, "weights": WEIGHTS.get(arch, "none")} | given


def epoch_seconds(photos: Path, base: Path, given: dict[str, str]) -> float:
    """The median seconds from one epoch's metric line to the next's in a whole job's log."""
    shutil.rmtree(base, ignore_errors=True)
    (base / "input" / "config").mkdir(parents=True)
    (base / "input" / "data").mkdir()
    for split in ("train", "validation"):
        (base / "input" / "data" / split).symlink_to(photos / split)
    (base / "input" / "config" / "hyperparameters.json").write_text(to_json(given))
    times: list[float] = []
    with subprocess.Popen(
        [sys.executable, "-c", "from container import train; train.main(export=False)"],
        env=os.environ | {"SAGEMAKER_BASE_DIR": str(base), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as job:
        lines = job.stdout or ()
        times += [time.perf_counter() for line in lines if re.match(r"epoch=\d+;", line)]
    if job.returncode:
        sys.exit(f"the job failed: {(base / 'output' / 'failure').read_text()}")
    return statistics.median(b - a for a, b in itertools.pairwise(times))


def measure_epochs(photos: Path, root: Path, arch: str, rounds: int) -> None:
    found: dict[str, list[float]] = {"on": [], "off": []}
    for _ in range(rounds):
        for cache, epochs in (("off", "2"), ("on", "8")):
            given = hyperparameters(arch, feature_cache=cache, epochs=epochs)
            found[cache].append(epoch_seconds(photos, root / "epoch", given))
    off, on = (statistics.median(found[cache]) for cache in ("off", "on"))
    print(
        f"{arch}: epoch through the backbone {off:.2f} s, on features {on:.3f} s: {off / on:.0f}x"
    )


def measure_pass(photos: Path, root: Path, arch: str, rounds: int, images: int) -> None:
    """Images a second of the pass, and of decoding and the engine alone, one after the other."""
    hp = Hyperparameters.parse(hyperparameters(arch))
    start = Initialization.find(hp, None, main=True)
    network, head = build_network(arch, 10, image_size=SIZE)
    if start.weights is not None:
        fit_weights(network, start.weights, head)
    means = start.preprocessing
    geometry: Geometry = means.geometry(SIZE)
    index = Index.from_folder(photos / "train")
    index = index.take(index.spread(images))
    workers = available_cpus()
    extractor = FeatureExtractor(
        Classifier(network, means.mean, means.std),
        head,
        arch=arch,
        stem="standard",
        geometry=geometry,
        cache=FeatureCache(root / "warm", False, say=lambda _line: None),
        workers=workers,
        keep_graph=True,
        say=lambda _line: None,
    )
    extractor.extract(index)  # converts the backbone
    engine: Any = extractor.engines.fast
    batch = torch.randint(0, 256, (64, 3, SIZE, SIZE), dtype=torch.uint8)
    whole, decoding, forward = [], [], []
    for number in range(rounds):
        extractor.cache.root = root / f"round-{number}"
        started = time.perf_counter()
        extractor.extract(index)
        whole.append(time.perf_counter() - started)
        started = time.perf_counter()
        loader = EpochLoader(
            index, geometry, batch_size=64, seed=0, train=False, workers=workers, image_size=SIZE
        )
        count = sum(len(labels) for _, labels in loader.batches(0))
        decoding.append(time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(-(-count // 64)):
            engine(batch)
        forward.append((time.perf_counter() - started) * count / (-(-count // 64) * 64))
    ratio = statistics.median((d + f) / w for w, d, f in zip(whole, decoding, forward, strict=True))
    rates = [images / statistics.median(each) for each in (whole, decoding, forward)]
    print(
        f"{arch}: pass {rates[0]:.0f} images/s by {engine.name}; alone decoding {rates[1]:.0f}, "
        f"engine {rates[2]:.0f}; pass / (decoding, then engine): {ratio:.2f}"
    )


def tuning_request(name: str, trials: int, static: dict[str, str]) -> dict[str, Any]:
    job = request(name)
    definition = {key: job[key] for key in job if key not in ("TrainingJobName", "HyperParameters")}
    definition["StoppingCondition"] = {"MaxRuntimeInSeconds": 24 * 3600}
    definition["AlgorithmSpecification"] |= {
        "MetricDefinitions": [
            {"Name": "validation:accuracy", "Regex": "validation:accuracy=(.*?);"}
        ]
    }
    rate = {"Name": "learning_rate", "MinValue": "0.001", "MaxValue": "0.1"}
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "RandomSeed": 1,
            "HyperParameterTuningJobObjective": {
                "Type": "Maximize",
                "MetricName": "validation:accuracy",
            },
            "ResourceLimits": {"MaxNumberOfTrainingJobs": trials, "MaxParallelTrainingJobs": 1},
            "ParameterRanges": {
                "ContinuousParameterRanges": [rate | {"ScalingType": "Logarithmic"}]
            },
        },
        "TrainingJobDefinition": {"StaticHyperParameters": static, **definition},
    }


def tune(trial: Trial, name: str, trials: int, static: dict[str, str]) -> tuple[float, float]:
    """The seconds and the best validation accuracy of a tuning job."""
    started = time.perf_counter()
    client = trial.sagemaker
    client.create_hyper_parameter_tuning_job(**tuning_request(name, trials, static))
    while True:
        job = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        if job["HyperParameterTuningJobStatus"] != "InProgress":
            break
        time.sleep(0.1)
    if job["TrainingJobStatusCounters"]["Completed"] != trials:
        sys.exit(f"{name}: {job.get('FailureReason', job['TrainingJobStatusCounters'])}")
    jobs = client.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, SortBy="CreationTime", SortOrder="Ascending"
    )["TrainingJobSummaries"]
    each = [(one["TrainingEndTime"] - one["CreationTime"]).total_seconds() for one in jobs]
    print(f"{name}: seconds of the trials: {', '.join(f'{one:.1f}' for one in each)}", flush=True)
    best = job["BestTrainingJob"]["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    return time.perf_counter() - started, best


def measure_tuning(photos: Path, root: Path, arch: str, trials: int) -> None:
    trial = Trial(root / f"tuning-{arch}", photos, "data")
    try:
        found = {
            cache: tune(
                trial, f"features-{cache}", trials, hyperparameters(arch, feature_cache=cache)
            )
            for cache in ("on", "off")
        }
    finally:
        trial.berth("down")
    (on, on_best), (off, off_best) = found["on"], found["off"]
    print(
        f"{arch}: tuning job of {trials} trials on features {on:.0f} s, best {on_best:.4f}; "
        f"through the backbone {off:.0f} s, best {off_best:.4f}: {off / on:.1f}x",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=512, help="of the pass")
    parser.add_argument("--only", choices=("epoch", "pass", "tuning"))
    parser.add_argument("--arch", nargs="*", default=["efficientnet_lite0", "resnet18"])
    options = parser.parse_args()
    photos = options.photos.resolve()
    torch.set_num_threads(available_cpus())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for arch in options.arch:
            if options.only in (None, "epoch"):
                measure_epochs(photos, root, arch, options.rounds)
            if options.only in (None, "pass"):
                measure_pass(photos, root / arch, arch, options.rounds, options.images)
            if options.only in (None, "tuning"):
                measure_tuning(photos, root, arch, options.trials)


if __name__ == "__main__":
    main()
