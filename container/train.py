"""A training job, read from top to bottom.

SageMaker runs the `train` command (`container/command.py`), which calls `main` in process; with
several GPUs or hosts, torchrun runs this module once a rank.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from container import script_mode
from container.architectures import build_network
from container.cpus import physical_cpus
from container.data.index import Index
from container.data.lint import lint
from container.data.loader import EpochLoader
from container.data.splits import Splits, find_splits
from container.environment import (
    Environment,
    base_folder,
    first_failure,
    read_hyperparameters,
    write_failure,
)
from container.errors import BerthError, DataError, JobEnded
from container.features.cache import FeatureCache
from container.features.job import JobFeatures, decodable_files, given_features
from container.features.loader import FeatureLoader
from container.hyperparameters import (
    UNTRAINED,
    HyperparameterError,
    Hyperparameters,
    frozen_untrained,
)
from container.models import Classifier
from container.monitoring.requested import is_debugged, is_profiled
from container.results.export import write_artifact
from container.results.finalize import describe, finish
from container.tracking.tracker import Tracker, make_tracker
from container.training.accumulation import steps_of
from container.training.callbacks import Callback
from container.training.checkpoint import Interrupted, StopSignal
from container.training.distributed import World, join_world, launch, needs_launch
from container.training.job import TrainingJob
from container.training.metrics import MetricLogger, say
from container.training.trainer import Trainer
from container.training.weights import Initialization, fit_weights

INTERRUPTED = 143
"""128 + SIGTERM, as a shell reports it."""


def main(*, export: bool = True) -> None:
    """Run the job that SageMaker's tree describes.

    Args:
        export: also convert the model to OpenVINO; otherwise PyTorch serves it. With several
            processes the model is always converted.

    Raises:
        JobEnded: it failed (status 1) or was stopped (143); `output/failure` has the reason.
    """
    base = base_folder()
    try:
        environment = Environment.read()
        _export_variables(base)
        if needs_launch(environment) and not _is_fit(environment):
            environment.clear_failure()
            read_hyperparameters(environment)
            launch(environment, "container.train")
        else:
            run(environment, export=export)
    except Interrupted as reason:
        write_failure(base, f"{reason}\n")
        raise JobEnded(str(reason), INTERRUPTED) from None
    except BerthError as error:
        write_failure(base, f"{error}\n")
        raise JobEnded(first_failure(base)) from None
    except Exception as error:
        line = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        write_failure(base, f"{line}\n\n{traceback.format_exc()}")
        raise JobEnded(line) from error


def _export_variables(base: Path) -> None:
    """Set the sagemaker-training toolkit's `SM_*` variables, which its users' code may read.

    The toolkit fixes its tree on import; nothing is set for another tree. The SDK's entries among
    the hyperparameters are omitted, because the toolkit fails if a job's name is a number.
    """
    if "SM_CURRENT_HOST" in os.environ:
        return
    try:
        from sagemaker_training import environment as toolkit

        if toolkit.base_dir != str(base):
            return
        toolkit.logger.setLevel("WARNING")
        given = toolkit.read_hyperparameters()
        ignored = set(script_mode.ignored(given))
        passed = {name: value for name, value in given.items() if name not in ignored}
        os.environ.update(toolkit.Environment(hyperparameters=passed).to_env_vars())
    except Exception as error:
        say(f"the toolkit's SM_* variables are not set: {type(error).__name__}: {error}")


def _is_fit(environment: Environment) -> bool:
    """Whether this is a fit job, which runs in a single process.

    Raises:
        HyperparameterError: a hyperparameter is wrong.
        DataError: a fit job has several hosts.
    """
    environment.clear_failure()
    if not read_hyperparameters(environment).fit_minutes:
        return False
    if len(environment.hosts) > 1:
        raise DataError(
            f"hosts: found {len(environment.hosts)}, expected one for a job with fit_minutes"
        )
    return True


def run(environment: Environment, *, export: bool = True) -> None:
    """One rank's job: data, network, training, artifact, evaluation."""
    began = time.monotonic()
    stop = StopSignal()
    world = join_world(environment)
    if world.size == 1:
        environment.clear_failure()
    hp = read_hyperparameters(environment)
    log = say if world.is_main else _silent
    ignored = script_mode.ignored(environment.hyperparameters)
    if ignored:
        log(f"ignored hyperparameters of the SageMaker SDK: {', '.join(ignored)}")
    tracker = make_tracker(environment, hp, main=world.is_main, say=log)
    try:
        if hp.fit_minutes:
            _fit(environment, hp, began, stop, tracker, log, export=export)
            tracker.end("FINISHED")
            return
        callback = _callback(environment, hp, world, log)
        try:
            _train(environment, hp, world, began, stop, callback, tracker, log, export=export)
        finally:
            callback.teardown()
    except Interrupted:
        tracker.end("KILLED")
        raise
    except BaseException:
        tracker.end("FAILED")
        raise
    tracker.end("FINISHED")


def _fit(
    environment: Environment,
    hp: Hyperparameters,
    began: float,
    stop: StopSignal,
    tracker: Tracker,
    log: Callable[[str], None],
    *,
    export: bool,
) -> None:
    """Run a job with `fit_minutes`; `began` is its start on the monotonic clock."""
    from container.fit.backbones import FitData, find_backbones
    from container.fit.budget import TimeBudget
    from container.fit.context import FitContext
    from container.fit.job import run_fit

    if environment.features_channel is not None:
        raise DataError("channel 'features': found one, expected none in a job with fit_minutes")
    budget = TimeBudget(60 * hp.fit_minutes, spent=time.monotonic() - began)
    find_backbones(hp, environment.weights_channel)
    tracker.parameters(hp)
    if is_debugged(environment.base, hp.debug) or is_profiled(environment.base, hp.profile):
        log("a fit job is neither debugged nor profiled")
    splits = _read_data(environment, hp, None)
    environment.output_data_dir.mkdir(parents=True, exist_ok=True)
    _require_enough(splits.train, ranks=1)
    cache = FeatureCache.find(environment, None, log, lambda: bool(stop.received))
    data = FitData(environment, hp, _device(World()), splits, cache)
    metrics = MetricLogger(environment.output_data_dir, active=True, tracker=tracker)
    run_fit(FitContext(data, budget, stop, log, export), metrics)


def _train(
    environment: Environment,
    hp: Hyperparameters,
    world: World,
    began: float,
    stop: StopSignal,
    callback: Callback,
    tracker: Tracker,
    log: Callable[[str], None],
    *,
    export: bool,
) -> None:
    start = Initialization.find(hp, environment.weights_channel, main=world.is_main)
    hp = start.hp
    tracker.parameters(hp)
    if frozen_untrained(hp.freeze, hp.weights):
        log(f"warning: {UNTRAINED}")
    given = given_features(environment, world)
    job = TrainingJob(
        environment=environment,
        hp=hp,
        world=world,
        device=_device(world),
        geometry=start.preprocessing.geometry(hp.image_size),
        splits=world.share(lambda: _read_data(environment, hp, given)),
    )
    environment.output_data_dir.mkdir(parents=True, exist_ok=True)
    _require_enough(job.splits.train, ranks=world.size)
    classifier, head = _build(job, start)
    features = JobFeatures.of(
        job,
        classifier,
        head,
        start.stem,
        given,
        lambda: bool(stop.received),
        graph=export,
        say=log,
    )
    if features is not None and hp.features_only:
        world.leave()
        if world.is_main:
            features.write_model()
        return
    loader: EpochLoader | FeatureLoader
    validation: EpochLoader | FeatureLoader
    if features is None:
        loader, validation = (
            job.loader(job.splits.train, train=True),
            job.loader(job.splits.validation),
        )
    else:
        loader, validation = features.loader(train=True), features.loader(train=False)
    trained_on = {"features": None} if features is None else features.identity
    facts = {
        "device": job.device_name,
        "workers": loader.workers,
        "in_memory": loader.in_memory,
        "train_images": len(job.splits.train.paths),
        "classes": list(job.splits.train.classes),
    }
    _require_batches(hp, len(loader))
    steps = hp.epochs * steps_of(len(loader), hp.gradient_accumulation_steps)
    callback.setup(classifier.network, job.device, steps, facts)
    metrics = MetricLogger(environment.output_data_dir, active=world.is_main, tracker=tracker)
    trainer = Trainer(
        hp,
        classifier,
        head,
        job.splits.train,
        loader,
        validation,
        device=job.device,
        world=world,
        checkpoints=job.checkpoints(environment.checkpoint_dir, log, trained_on),
        stop=stop,
        metrics=metrics,
        say=log,
        callback=callback,
        on_features=features is not None,
    )
    try:
        progress = trainer.fit()
    except Interrupted:
        if world.is_main and trainer.progress.best_epoch:
            trainer.restore_best()
            write_artifact(describe(job, start, trainer.progress), classifier, None, log)
        raise
    callback.on_train_end()
    world.leave()
    if world.is_main:
        artifact = describe(job, start, progress)
        shortcut = None if features is None else features.shortcut(classifier, head, log)
        finish(
            job,
            classifier,
            artifact,
            progress,
            callback,
            metrics,
            export=export,
            shortcut=shortcut,
            elapsed=lambda: time.monotonic() - began,
            stopped=lambda: bool(stop.received),
        )
        callback.on_fit_end()
        if frozen_untrained(hp.freeze, hp.weights):
            log(f"warning: {UNTRAINED}")


def _callback(
    environment: Environment, hp: Hyperparameters, world: World, log: Callable[[str], None]
) -> Callback:
    """The debugger and the profiler, imported only if the job uses them.

    Raises:
        RuleError, DataError: their configuration is wrong.
    """
    base = environment.base
    if not is_debugged(base, hp.debug) and not is_profiled(base, hp.profile):
        return Callback()
    from container.monitoring.config import MonitoringConfig
    from container.monitoring.monitor import Monitor

    return Monitor(MonitoringConfig.read(environment, hp, log), environment, hp, world, log)


def _read_data(environment: Environment, hp: Hyperparameters, given: Path | None) -> Splits:
    splits = find_splits(environment.channels, hp.validation_split, hp.seed, environment.streamed)
    known = decodable_files(environment, hp, given)
    splits = lint(splits, on_bad_image=hp.on_bad_image, report=say, known=known)
    known.add(index for _, index in splits.items())
    counts = ", ".join(
        f"{len(index.paths)} {name}"
        for name, index in (
            ("train", splits.train),
            ("validation", splits.validation),
            ("test", splits.test),
        )
        if index is not None
    )
    say(f"data: {len(splits.train.classes)} classes; images: {counts}")
    return splits


def _device(world: World) -> torch.device:
    """This rank's GPU, or the CPU.

    The CPU is used with `OMP_NUM_THREADS` threads if that is set, as by the launcher, and otherwise
    with one thread per available core.
    """
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        return torch.device("cuda", world.local_rank)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(physical_cpus())
    return torch.device("cpu")


def _require_enough(train: Index, *, ranks: int) -> None:
    """Raise DataError for fewer than two classes or images per process."""
    used = int((train.counts() > 0).sum())
    if used < 2:
        raise DataError(
            f"train: found usable images of {used} class{'' if used == 1 else 'es'}, expected of "
            "two or more"
        )
    if -(-len(train) // ranks) < 2:
        raise DataError(
            f"train: found {len(train)} usable images for {ranks} processes, expected two "
            "or more for each: batch normalisation cannot learn from one"
        )


def _require_batches(hp: Hyperparameters, batches: int) -> None:
    """Raise HyperparameterError if a step needs more batches than an epoch has."""
    size = hp.gradient_accumulation_steps
    if size > batches:
        raise HyperparameterError(
            f"hyperparameter 'gradient_accumulation_steps': found {size}, expected at most "
            f"{batches}: an epoch has {batches} batches of {hp.batch_size} images for a process"
        )


def _build(job: TrainingJob, start: Initialization) -> tuple[Classifier, str]:
    """Build the classifier on its device; also returns its head's name."""
    hp, stem, weights = job.hp, start.stem, start.weights
    torch.manual_seed(hp.seed)
    network, head = build_network(
        hp.arch,
        len(job.splits.train.classes),
        image_size=hp.image_size,
        stem=stem,
        head_hidden=hp.head_hidden,
        dropout=hp.dropout,
    )
    if job.world.is_main:
        source = "none: random initialisation"
        if weights is not None:
            with_head = fit_weights(network, weights, head)
            source = f"{weights.source} ({'with' if with_head else 'without'} its head)"
        count = sum(parameter.numel() for parameter in network.parameters())
        say(f"network: {hp.arch}, {stem} stem, {count / 1e6:.1f} million parameters")
        say(f"weights: {source}")
        say(f"device: {job.device_name}")
    means = start.preprocessing
    return Classifier(network, means.mean, means.std).to(job.device), head


def _silent(_message: str) -> None:
    """Discard a message, on ranks other than 0."""


if __name__ == "__main__":
    try:
        main()
    except JobEnded as ended:
        print(f"rank {os.environ.get('RANK', 0)}: {ended}", file=sys.stderr, flush=True)
        sys.exit(ended.errno)
