"""Every backbone and input size on some images: which are promising, and how fast they are."""

import time

import torch

from container.architectures import ModelError
from container.data.index import Index
from container.data.loader import decode_all
from container.errors import FeatureError, TrainingError
from container.fit.backbones import SizedBackbone, find_backbones, own_size
from container.fit.budget import SAFETY, minutes_for
from container.fit.choices import candidate_sizes
from container.fit.context import END_SECONDS, FitContext
from container.fit.linear.selection import LabelledFeatures, cross_validated
from container.fit.linear.validation import subset
from container.fit.state import TrialResult
from container.fit.threads import fastest_threads

IMAGES = 300
"""Training images that a backbone and a size are tried on."""
MEASURED_IMAGES = 16
"""Of the forward pass by which the number of threads is chosen."""
SHARE = 0.15
"""Of the time, for all trials."""
FEATURE_SHARE = 0.4
"""Of the time, for the features of all images by one backbone."""
PROMISING = 3
"""Backbones whose features of all images are computed, at most."""


def try_backbones(fit: FitContext) -> None:
    """Probe some images at each backbone's sizes, small sizes first, and measure the speed.

    Raises:
        TrainingError: no backbone takes these images, or none gets through them in time.
        WeightsError: there is no backbone.
    """
    hp, channel = fit.data.hp, fit.data.environment.weights_channel
    archs, why = find_backbones(hp, channel)
    fit.choose(f"backbones {', '.join(archs)}", why)
    train = fit.data.splits.train
    tried = train.take(subset(train.labels, IMAGES, hp.seed))
    for arch in archs:
        own = own_size(hp, arch, channel)
        sizes = (own,) if "image_size" in hp.model_fields_set else candidate_sizes(own, fit.side)
        if fit.state.trials == []:
            fit.choose(f"image sizes {', '.join(map(str, sizes))}", _why(fit, own, sizes))
        for size in sizes:
            if any((each.arch, each.image_size) == (arch, size) for each in fit.state.trials):
                continue
            fit.require_running()
            if _too_slow(fit, arch, size, len(tried)):
                fit.say(f"not tried: {arch} at {size} px, for lack of time")
                continue
            try:
                backbone = fit.backbone(arch, size)
            except (FeatureError, ModelError) as error:
                fit.say(f"not tried: {arch} at {size} px: {error}")
                continue
            _try(fit, backbone, tried)
    if not fit.state.trials:
        raise TrainingError(
            f"fit_minutes: found no backbone that takes these images among {', '.join(archs)}"
        )
    _require_time(fit)
    fit.state.tried = True
    fit.save()


def promising(fit: FitContext) -> list[TrialResult]:
    """The best size of each backbone that fits its share of the time, the best three.

    The cheapest fits in any case.
    """
    trials = fit.state.trials
    share = FEATURE_SHARE * fit.budget.seconds
    fitting = [each for each in trials if SAFETY * each.seconds * fit.images <= share]
    fitting = fitting or [min(trials, key=lambda each: each.seconds)]
    best: dict[str, TrialResult] = {}
    for trial in fitting:
        if trial.arch not in best or trial.accuracy > best[trial.arch].accuracy:
            best[trial.arch] = trial
    return sorted(best.values(), key=lambda each: -each.accuracy)[:PROMISING]


def _why(fit: FitContext, own: int, sizes: tuple[int, ...]) -> str:
    if "image_size" in fit.data.hp.model_fields_set:
        return "hyperparameter image_size names it"
    if sizes == (own,):
        return f"the images' shorter side is {fit.side} px and the weights expect {own}"
    return f"images of {fit.side} px can be enlarged to each; the most accurate is taken"


def _too_slow(fit: FitContext, arch: str, size: int, images: int) -> bool:
    """Whether a trial would take more than what is left of the trials' share of the time.

    Time goes with the pixels; another backbone is taken to be as fast.
    """
    trials = fit.state.trials
    if not trials:
        return False
    last = ([each for each in trials if each.arch == arch] or trials)[-1]
    seconds = last.seconds * (size / last.image_size) ** 2 * images
    return fit.budget.elapsed + seconds > SHARE * fit.budget.seconds


def _try(fit: FitContext, backbone: SizedBackbone, tried: Index) -> None:
    if not fit.state.threads:
        _choose_threads(fit, backbone, tried)
    began = time.monotonic()
    workers, backbone.extractor.workers = backbone.extractor.workers, 0
    features = backbone.extractor.extract(tried, name="some")
    backbone.extractor.workers = workers
    seconds = (time.monotonic() - began) / len(tried)
    labelled = LabelledFeatures(features.values, features.labels)
    compared = cross_validated(labelled, len(tried.classes), fit.data.hp.seed)[1]
    hp = backbone.job.hp
    fit.state.trials.append(TrialResult(hp.arch, hp.image_size, compared.accuracy, seconds))
    low, high = compared.interval
    fit.say(
        f"tried: {backbone.name}: accuracy {compared.accuracy:.3f} ({low:.3f} to {high:.3f}) on "
        f"{len(tried)} images, {1 / seconds:.0f} images/s"
    )


def _choose_threads(fit: FitContext, backbone: SizedBackbone, tried: Index) -> None:
    """Choose the number of threads for forward passes, which warms the backbone up."""
    job = backbone.job
    index = tried.take(tried.spread(MEASURED_IMAGES))
    images = torch.from_numpy(decode_all(index, job.geometry)).to(job.device)
    pixels = images.permute(0, 2, 3, 1)
    backbone.classifier.eval().to(memory_format=torch.channels_last)

    def measure() -> float:
        with torch.inference_mode():
            backbone.classifier(pixels)
            began = time.monotonic()
            backbone.classifier(pixels)
        return time.monotonic() - began

    if job.device.type == "cpu" and len(fit.threads) > 1:
        threads, _ = fastest_threads(measure, fit.threads)
        fit.state.threads = threads
        fit.choose(f"threads={threads}", f"they were the fastest of {_some(fit.threads)}")
    else:
        fit.state.threads = torch.get_num_threads()
        measure()


def _some(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def _require_time(fit: FitContext) -> None:
    """Raise TrainingError unless the cheapest backbone gets through all images in time."""
    cheapest = min(fit.state.trials, key=lambda each: each.seconds)
    needed = fit.budget.elapsed + END_SECONDS + SAFETY * cheapest.seconds * fit.images
    if needed > fit.budget.seconds:
        raise TrainingError(
            f"hyperparameter 'fit_minutes': found {fit.budget.seconds / 60:g}, too few for one "
            f"pass over {fit.images:,} images by {cheapest.arch} at {cheapest.image_size} px, "
            f"expected {minutes_for(needed):g} or more"
        )
