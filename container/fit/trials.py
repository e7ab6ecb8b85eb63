"""Trials of every backbone and input size on some images, for accuracy and speed."""

import itertools
import time
from dataclasses import replace

import numpy as np
import torch

from container.architectures import ModelError
from container.data.index import Index
from container.data.loader import decode_all
from container.errors import FeatureError, TrainingError
from container.fit.backbones import SizedBackbone, find_backbones, own_size
from container.fit.budget import SAFETY, minutes_for, spoken
from container.fit.choices import SIZES, candidate_sizes
from container.fit.context import END_SECONDS, FitContext
from container.fit.linear.selection import LabelledFeatures, choose_probe, cross_validated
from container.fit.linear.validation import FEW, can_be_folded, sample, subset
from container.fit.state import TrialResult
from container.fit.threads import fastest_threads

IMAGES = 300
"""Training images of a trial."""
SPEED_IMAGES = 64
"""Training images of a trial without any alternative, which only measures the speed."""
MEASURED_IMAGES = 8
"""Batch size of the forward pass that chooses the number of threads."""
SHARE = 0.15
"""Share of the time left at their start for all trials."""
FEATURE_SHARE = 0.4
"""Share of the time for the features of all images by one backbone."""
PROMISING = 3
"""Backbones whose features of all images are computed, at most."""


def try_backbones(fit: FitContext) -> None:
    """Probe some images at each backbone's sizes, small sizes first, and measure the speed.

    Raises:
        TrainingError: no backbone supports these images, or none is fast enough.
        WeightsError: there is no backbone.
    """
    hp, channel = fit.data.hp, fit.data.environment.weights_channel
    archs, why = find_backbones(hp, channel)
    fit.choose(f"backbones {', '.join(archs)}", why)
    owns = {arch: own_size(hp, arch, channel) for arch in archs}
    candidates = [(arch, size) for arch, own in owns.items() for size in _sizes(fit, own)]
    tried, held = _tried(fit, alone=len(candidates) == 1)
    if not fit.state.trials:
        sizes = _sizes(fit, owns[archs[0]])
        fit.choose(f"image sizes {', '.join(map(str, sizes))}", _why(fit, owns[archs[0]], sizes))
    until = fit.budget.elapsed + SHARE * fit.budget.left
    for arch, size in candidates:
        if any((each.arch, each.image_size) == (arch, size) for each in fit.state.trials):
            continue
        fit.require_running()
        if _too_slow(fit, arch, size, len(tried) + len(held or ()), until):
            fit.say(f"not tried: {arch} at {size} px, for lack of time")
            continue
        _try(fit, arch, size, tried, held)
    if not fit.state.trials:
        raise TrainingError(
            f"fit_minutes: found no backbone that takes these images among {', '.join(archs)}"
        )
    _shrink(fit, tried, held)
    _leave_out(fit)
    _require_time(fit)
    fit.state.tried = True
    fit.save()


def _sizes(fit: FitContext, own: int) -> tuple[int, ...]:
    if "image_size" in fit.data.hp.model_fields_set:
        return (own,)
    return candidate_sizes(own, fit.side)


def _shrink(fit: FitContext, tried: Index, held: Index | None) -> None:
    """Where no trial's size gets through all images in time, try the largest one that may.

    Where none may, the largest that gets through half of them, or a quarter.
    """
    cheapest = min(fit.state.trials, key=lambda each: each.seconds)
    if "image_size" in fit.data.hp.model_fields_set or _needed(fit, cheapest) <= 0:
        return
    for share, size in itertools.product((1.0, 0.5, 0.25), sorted(SIZES, reverse=True)):
        seconds = cheapest.seconds * (size / cheapest.image_size) ** 2
        trial = seconds * (len(tried) + len(held or ()))
        smaller = replace(cheapest, image_size=size, seconds=seconds)
        if size < cheapest.image_size and trial + _needed(fit, smaller, share) <= 0:
            fit.choose(
                f"image size {size}",
                f"{fit.images:,} images at {cheapest.image_size} px take longer than what is left",
            )
            fit.require_running()
            if _try(fit, cheapest.arch, size, tried, held):
                return


def _leave_out(fit: FitContext) -> None:
    """Where even the cheapest trial's backbone does not get through all images, use fewer.

    None where there is time for fewer than `FEW` training images a class.
    """
    cheapest = min(fit.state.trials, key=lambda each: each.seconds)
    if _needed(fit, cheapest) <= 0:
        return
    splits = fit.data.splits
    held_out = fit.images - len(splits.train) - len(splits.validation)
    affordable = (fit.budget.left - END_SECONDS) / (SAFETY * cheapest.seconds) - held_out
    share = affordable / (len(splits.train) + len(splits.validation))
    train, validation = (int(share * len(each)) for each in (splits.train, splits.validation))
    least = FEW * len(splits.train.classes)
    if not least <= train < len(splits.train) or validation < 1:
        return
    fit.choose(
        f"{train:,} of {len(splits.train):,} training images",
        f"a pass over all images by {cheapest.arch} at {cheapest.image_size} px takes longer than "
        f"the {spoken(fit.budget.left)} that are left: more minutes make a better classifier",
    )
    fit.state.fewer = [train, validation]
    fit.use_fewer()


def _needed(fit: FitContext, trial: TrialResult, share: float = 1.0) -> float:
    """Seconds that one pass over a share of all images and the end need beyond those left.

    Of few training images the trial made all features.
    """
    train = len(fit.data.splits.train)
    images = fit.images - (train if train <= IMAGES and trial in fit.state.trials else 0)
    return END_SECONDS + SAFETY * trial.seconds * share * images - fit.budget.left


def promising(fit: FitContext) -> list[TrialResult]:
    """The best size of the best three backbones, among those fast enough for all images.

    If none is, the fastest.
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


def _too_slow(fit: FitContext, arch: str, size: int, images: int, until: float) -> bool:
    """Whether a trial would take too long, or the features of all images would.

    The time is estimated by the number of pixels, from the last trial of the same or any backbone.

    Args:
        images: number of images of the trial.
        until: `budget.elapsed` when trials must end.
    """
    trials = fit.state.trials
    if not trials:
        return False
    last = ([each for each in trials if each.arch == arch] or trials)[-1]
    seconds = last.seconds * (size / last.image_size) ** 2
    return fit.budget.elapsed + seconds * images > until or (
        last.arch == arch and SAFETY * seconds * fit.images > FEATURE_SHARE * fit.budget.seconds
    )


def _tried(fit: FitContext, *, alone: bool) -> tuple[Index, Index | None]:
    """The training images backbones are tried on, and validation images to compare them on.

    Without those they are compared by cross-validation; there are some where a class of the
    training images has a single one, which cannot be both learned and held out.

    Args:
        alone: there is one candidate, whose speed alone matters.
    """
    splits, seed = fit.data.splits, fit.data.hp.seed
    # All of few images in any case, as their features are those that the probe needs.
    images = SPEED_IMAGES if alone and len(splits.train) > IMAGES else IMAGES
    tried = splits.train.take(sample(splits.train.labels, images, seed))
    if can_be_folded(tried.labels):
        return tried, None
    known = np.flatnonzero(np.isin(splits.validation.labels, tried.labels))
    if not len(known):
        return tried, None
    return tried, splits.validation.take(
        known[subset(splits.validation.labels[known], images, seed)]
    )


def _try(fit: FitContext, arch: str, size: int, tried: Index, held: Index | None) -> bool:
    """Add a trial; False, after a line, where the backbone does not take such images."""
    try:
        backbone = fit.backbone(arch, size)
    except (FeatureError, ModelError) as error:
        fit.say(f"not tried: {arch} at {size} px: {error}")
        return False
    if not fit.state.threads:
        _choose_threads(fit, backbone, tried)
    began = time.monotonic()
    extractor = backbone.extractor
    workers, extractor.workers = extractor.workers, 0
    some = [extractor.extract(each, name="some") for each in (tried, held) if each is not None]
    extractor.workers = workers
    # Converting the backbone takes as long for a few images as for all.
    seconds = extractor.seconds_per_image
    if seconds is None:
        seconds = (time.monotonic() - began) / sum(len(each.labels) for each in some)
    train, *rest = (LabelledFeatures(each.values, each.labels) for each in some)
    classes, seed = len(tried.classes), fit.data.hp.seed
    if rest:
        compared = choose_probe(train, rest[0], classes, seed).validation
    else:
        compared = cross_validated(train, classes, seed)[1]
    fit.state.trials.append(TrialResult(arch, size, compared.accuracy, seconds))
    low, high = compared.interval
    fit.say(
        f"tried: {backbone.name}: accuracy {compared.accuracy:.3f} ({low:.3f} to {high:.3f}) on "
        f"{compared.images} images, {1 / seconds:.1f} images/s"
    )
    return True


def _choose_threads(fit: FitContext, backbone: SizedBackbone, tried: Index) -> None:
    """Choose the number of threads for forward passes; also warms up the backbone."""
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
    """Raise TrainingError unless the fastest backbone can process all images in time."""
    cheapest = min(fit.state.trials, key=lambda each: each.seconds)
    if _needed(fit, cheapest) > 0:
        needed = fit.budget.seconds + _needed(fit, cheapest)
        raise TrainingError(
            f"hyperparameter 'fit_minutes': found {fit.budget.seconds / 60:g}, too few for one "
            f"pass over {fit.images:,} images by {cheapest.arch} at {cheapest.image_size} px, "
            f"expected {minutes_for(needed):g} or more"
        )
