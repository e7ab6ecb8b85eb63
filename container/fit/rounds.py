"""Rounds of fine-tuning in the remaining time, each starting from a probe."""

from collections.abc import Mapping

import torch

from container.files.json_files import finite
from container.fit.backbones import SizedBackbone
from container.fit.budget import SAFETY, spoken
from container.fit.choices import epochs_for
from container.fit.context import FitContext
from container.fit.finetuning import (
    FIRST_RATE,
    TimedMetrics,
    fine_tune,
    recipe,
    step_seconds,
    with_recipe,
)
from container.fit.leaderboard import Leaderboard, LeaderboardEntry
from container.fit.linear.validation import SMALL, HeldOut
from container.fit.probing import add_probe
from container.fit.state import FineTuningRound
from container.training.checkpoint import Interrupted

ENOUGH_EPOCHS = 6
"""If the best input size gets fewer epochs, a smaller one that gets as many is used."""
ROUNDS = 4
"""Rounds, at most."""
MEASURED_IMAGES = 8
"""Batch size of the training steps that are timed."""
MOST_FORWARDS = 4
"""Upper bound for a training step, in forward passes: timing few steps on a busy machine is
unreliable."""
FORWARD = 1 / 3
"""Share of the forward pass in a training step (Kaplan et al. 2020, Scaling laws for neural
language models, section 2.1)."""


def fine_tune_promising(fit: FitContext) -> None:
    """Fine-tune until time is up or no further round is worthwhile."""
    for planned in fit.state.rounds:
        if not planned.done:
            _run(fit, planned)
    while len(fit.state.rounds) < ROUNDS:
        fit.require_running()
        next_round = _plan(fit) if _can_be_better(fit) else None
        if next_round is None:
            return
        fit.state.rounds.append(next_round)
        fit.save()
        _run(fit, next_round)


def _can_be_better(fit: FitContext) -> bool:
    """Whether the validation images could prefer another classifier; if not, a line says so."""
    chosen = fit.state.board.chosen
    if chosen.validation.hits < chosen.validation.images:
        return True
    fit.choose(
        "no more fine-tuning" if fit.state.rounds else "no fine-tuning",
        f"the {chosen.name} is right on all {chosen.validation.images:,} validation images, which "
        "cannot tell a better one",
    )
    return False


def _plan(fit: FitContext) -> FineTuningRound | None:
    """The next round; None if there is no time for it."""
    _keep_time_for_evaluation(fit)
    number, epochs, seconds = _start(fit)
    entry = fit.state.board.entries[number]
    left = spoken(fit.budget.free)
    if not epochs:
        if not fit.state.rounds:
            fit.choose(
                "no fine-tuning",
                f"{left} are left and an epoch of {entry.arch} at {entry.image_size} px takes "
                f"{spoken(seconds)}",
            )
        return None
    backbone = fit.of(entry)
    fit.choose(
        f"fine-tuning {backbone.name} for {epochs} epochs",
        f"{left} are left and an epoch takes {spoken(seconds)}",
    )
    rate, why = _next_rate(fit)
    chosen, reasons = recipe(backbone, epochs, rate, mirrored_alike=_mirrored_alike(fit, entry))
    if fit.state.rounds:
        fit.choose(f"learning_rate={rate:g}", why)
    else:
        for reason in reasons:
            fit.choose(reason.what, reason.why)
    validation = SAFETY * FORWARD * _step(fit, entry.arch, entry.image_size)
    free = fit.budget.free - validation * len(fit.data.splits.validation)
    return FineTuningRound(number, chosen, free, fit.budget.elapsed)


def _keep_time_for_evaluation(fit: FitContext) -> None:
    """Keep time for the evaluation of a fine-tuned network, which no features shorten."""
    best = fit.state.board.best_probe
    fit.reserve(
        max(
            FORWARD * _step(fit, best.arch, best.image_size),
            *(each.seconds for each in fit.state.trials if each.arch == best.arch),
        )
    )


def _start(fit: FitContext) -> tuple[int, int, float]:
    """The probe to start from, the number of epochs that fit, and the seconds of one.

    Uses a smaller input size if the best probe's size gets few epochs.
    """
    entries = fit.state.board.entries
    best = fit.state.board.best_probe
    number = entries.index(best)
    epochs, seconds = _epochs(fit, best.arch, best.image_size)
    smaller = [
        each.image_size
        for each in fit.state.trials
        if each.arch == best.arch and each.image_size < best.image_size
    ]
    for size in sorted(smaller, reverse=True):
        if epochs >= ENOUGH_EPOCHS:
            break
        known = [
            at
            for at, each in enumerate(entries)
            if (each.arch, each.image_size, each.kind) == (best.arch, size, "probe")
        ]
        more = _epochs(fit, best.arch, size, 0 if known else _features_seconds(fit, best, size))[0]
        if more <= epochs or (epochs and more < ENOUGH_EPOCHS):
            continue
        number = known[0] if known else add_probe(fit, best.arch, size)
        epochs, seconds = _epochs(fit, best.arch, size)
    return number, epochs, seconds


def _step(fit: FitContext, arch: str, size: int) -> float:
    """Seconds of a training step per image.

    Measured at the size of the backbone's best probe, and only if there may be time for
    fine-tuning; other sizes are scaled like the forward pass.
    """
    measured = {each.image_size: each.seconds for each in fit.state.trials if each.arch == arch}
    best = fit.state.board.best_probe.image_size
    name = f"step of {arch}"
    if name not in fit.budget.costs:
        guess = measured[size] / FORWARD
        if epochs_for(fit.budget.free, guess / 4 * len(fit.data.splits.train)) == 0:
            return guess
        seconds = step_seconds(fit.backbone(arch, best), MEASURED_IMAGES)
        fit.budget.measured(name, seconds, MEASURED_IMAGES)
    most = MOST_FORWARDS * measured[best]
    return min(fit.budget.costs[name], most) * measured[size] / measured[best]


def _features_seconds(fit: FitContext, entry: LeaderboardEntry, size: int) -> float:
    """Seconds for the features of all images by a classifier's backbone at another size."""
    seconds = {
        each.image_size: each.seconds for each in fit.state.trials if each.arch == entry.arch
    }
    splits = fit.data.splits
    return SAFETY * seconds[size] * (len(splits.train) + len(splits.validation))


def _epochs(fit: FitContext, arch: str, size: int, before: float = 0.0) -> tuple[int, float]:
    """Number of epochs that fit the free time, and the seconds of one with its validation.

    Without a safety factor, because training ends at its deadline in any case.

    Args:
        before: seconds needed before the first epoch.
    """
    step, splits = _step(fit, arch, size), fit.data.splits
    seconds = step * (len(splits.train) + FORWARD * len(splits.validation))
    return epochs_for(max(0.0, fit.budget.free - before), seconds), seconds


def _next_rate(fit: FitContext) -> tuple[float, str]:
    """The head's learning rate, and why."""
    rounds = fit.state.rounds
    if not rounds:
        return FIRST_RATE, "this is the first round"
    used = [float(each.hyperparameters["learning_rate"]) for each in rounds]
    if fit.state.board.chosen.kind == "fine-tuned":
        return 2.5 * max(used), "the previous round improved on the probe"
    return min(used) / 4, "the previous round did not improve on the probe"


def _mirrored_alike(fit: FitContext, entry: LeaderboardEntry) -> bool:
    """Whether the probe predicts mirrored validation images about as well, measured once."""
    if "mirrored_alike" not in fit.state.learning:
        backbone = fit.of(entry)
        backbone.use_probe(fit.state.probes[fit.state.board.entries.index(entry)])
        fit.state.learning["mirrored_alike"] = mirrored_alike(backbone)
    return bool(fit.state.learning["mirrored_alike"])


def _run(fit: FitContext, planned: FineTuningRound) -> None:
    number = fit.state.rounds.index(planned) + 1
    entry = fit.state.board.entries[planned.entry]
    fit.forget(entry.arch, entry.image_size)
    backbone = fit.of(entry)
    job = with_recipe(backbone, planned.hyperparameters)
    name = f"fine-tuned {backbone.name}, round {number}"

    def ended(record: Mapping[str, float]) -> None:
        fit.point(record["validation:accuracy"], name)
        # One that a killed process had begun comes again.
        planned.history[int(record["epoch"]) - 1 :] = [finite(record)]
        fit.save()

    checkpoints = job.checkpoints(fit.round_folder(number), fit.say)
    try:
        progress = fine_tune(
            backbone,
            fit.state.probes[planned.entry],
            job,
            fit.budget,
            began=planned.began,
            seconds=planned.seconds,
            checkpoints=checkpoints,
            metrics=TimedMetrics(fit.round_folder(number), ended),
            stop=fit.stop,
            say=fit.say,
        )
    except Interrupted:
        best = checkpoints.load_best()
        if best is not None:
            planned.best_epoch = int(best.counters["epoch"])
        raise
    planned.history, planned.best_epoch, planned.done = progress.history, progress.best_epoch, True
    tuned = _entry(fit, planned, entry, number)
    fit.state.board.add(tuned)
    fit.say(f"{spoken(fit.budget.elapsed)}: {tuned.line()}")
    fit.save()


def board_so_far(fit: FitContext) -> Leaderboard:
    """The leaderboard with the best epoch of a round that was interrupted."""
    board = Leaderboard(list(fit.state.board.entries))
    for number, planned in enumerate(fit.state.rounds, 1):
        if not planned.done and planned.best_epoch:
            board.add(_entry(fit, planned, board.entries[planned.entry], number))
    return board


def _entry(
    fit: FitContext, planned: FineTuningRound, start: LeaderboardEntry, number: int
) -> LeaderboardEntry:
    """A round's best epoch for the leaderboard."""
    images = len(fit.data.splits.validation)
    best = planned.history[planned.best_epoch - 1]
    accuracy, loss = best["validation:accuracy"], best["validation:loss"]
    held_out = HeldOut(round((accuracy or 0.0) * images), images, loss or 0.0)
    return LeaderboardEntry(
        arch=start.arch,
        image_size=start.image_size,
        kind="fine-tuned",
        how=f"{images:,} validation images",
        compared=held_out,
        validation=held_out,
        seconds=fit.budget.elapsed,
        detail=f"round {number}, epoch {planned.best_epoch} of {len(planned.history)}, "
        f"learning rate {planned.hyperparameters['learning_rate']:g}",
    )


def mirrored_alike(backbone: SizedBackbone) -> bool:
    """Whether a probe predicts mirrored validation images as well as the originals.

    The accuracy may be lower by two standard errors of the difference, or half a point.
    """
    job = backbone.job
    validation = job.splits.validation
    index = validation.take(validation.spread(SMALL))
    right: list[torch.Tensor] = []
    backbone.classifier.eval()
    with torch.inference_mode():
        for images, labels in job.loader(index, alone=True).batches(0):
            pixels = images.to(job.device).permute(0, 2, 3, 1)
            both = [backbone.classifier(each).argmax(1).cpu() for each in (pixels, pixels.flip(2))]
            right.append(torch.stack([each == labels for each in both]).float())
    plain, mirrored = torch.cat(right, 1)
    lost = plain - mirrored
    error = float(lost.std(correction=0)) / len(lost) ** 0.5
    return bool(float(lost.mean()) <= max(2 * error, 0.005))
