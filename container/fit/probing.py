"""Probes on the features of all images, and advice from the best."""

import time

from container.fit.budget import SAFETY, spoken
from container.fit.context import FitContext
from container.fit.ending import probe_progress, write_model
from container.fit.leaderboard import LeaderboardEntry
from container.fit.linear.advice import SHARE, learn
from container.fit.linear.selection import choose_probe, fit_probe
from container.fit.trials import promising

MEASURED_FROM = 600.0
"""Time limit, in seconds, from which the first probe's model is exported to measure the export."""


def probe_backbones(fit: FitContext) -> None:
    """Put a probe of each promising backbone on the leaderboard, as far as time allows."""
    board = fit.state.board
    found = promising(fit)
    fit.reserve(max(each.seconds for each in found))
    for trial in found:
        if any(
            (each.arch, each.image_size) == (trial.arch, trial.image_size) for each in board.entries
        ):
            continue
        fit.require_running()
        if board.entries and SAFETY * trial.seconds * fit.images > fit.budget.free / 2:
            fit.say(f"skipped for lack of time: {trial.arch} at {trial.image_size} px")
            continue
        add_probe(fit, trial.arch, trial.image_size)
    for line in board.lines():
        fit.say(line)


def add_probe(fit: FitContext, arch: str, size: int) -> int:
    """Compute the features of all images and fit a probe; returns its number on the leaderboard.

    The first probe's model is written at once, so that an interrupted job has one.
    """
    data, board, budget = fit.data, fit.state.board, fit.budget
    began = time.monotonic()
    train, validation = fit.extract(arch, size)
    seconds = (time.monotonic() - began) / (len(train) + len(validation))
    budget.measured("features", fit.backbone(arch, size).extractor.seconds_per_image or seconds)
    classes = len(data.splits.train.classes)
    with fit.computing("probe"):
        choice = choose_probe(train, validation, classes, data.hp.seed, data.device)
    entry = LeaderboardEntry(
        arch=arch,
        image_size=size,
        kind="probe",
        how=choice.how,
        compared=choice.compared,
        validation=choice.validation,
        seconds=budget.elapsed,
        detail=f"L2 strength {choice.probe.strength:g}",
    )
    board.add(entry)
    number = len(board.entries) - 1
    fit.state.probes[number] = choice.probe
    fit.point(entry.validation.accuracy, entry.name)
    fit.say(f"{spoken(budget.elapsed)}: {entry.line()}")
    if board.best_probe is entry and data.splits.test is not None:
        together = train.with_more(validation)
        fit.state.final = fit_probe(together, classes, choice.probe.strength, data.device)
    if number == 0:
        _write_first(fit, entry)
        fit.reserve(_seconds_per_image(fit, arch, size))
        fit.choose(
            f"{spoken(budget.reserve)} reserved for the end",
            "artifact, export and evaluation take time",
        )
    fit.save()
    return number


def _write_first(fit: FitContext, entry: LeaderboardEntry) -> None:
    """Write the first probe's model; with enough time also export it, to measure the export."""
    backbone = fit.of(entry)
    backbone.use_probe(fit.state.probes[0])
    measured = fit.budget.seconds >= MEASURED_FROM
    began = time.monotonic()
    write_model(backbone, probe_progress(entry), export=fit.export and measured)
    if measured or not fit.export:
        fit.budget.measured("artifact", time.monotonic() - began)


def _seconds_per_image(fit: FitContext, arch: str, size: int) -> float:
    """Seconds of a forward pass: the slower measurement, as features may have been cached."""
    tried = [e.seconds for e in fit.state.trials if (e.arch, e.image_size) == (arch, size)]
    return max(fit.budget.costs["features"], *tried)


def advise_more(fit: FitContext) -> None:
    """Log a learning curve of the best probe's features, and which class needs more images."""
    best = fit.state.board.best_probe
    if "advice" in fit.state.learning or (best.arch, best.image_size) not in fit.features:
        return
    fit.require_running()
    if not fit.budget.affords("probe", share=SHARE):
        fit.state.learning |= {"no_curve": "too little time", "advice": ""}
    else:
        train, validation = fit.extract(best.arch, best.image_size)
        probe = fit.state.probes[fit.state.board.entries.index(best)]
        fit.state.learning |= learn(
            train,
            validation,
            fit.data.splits.train.classes,
            probe.strength,
            fit.data.hp.seed,
            fit.data.device,
            fit.budget,
            fit.require_running,
        )
    if "no_curve" in fit.state.learning:
        fit.say(f"no learning curve: {fit.state.learning['no_curve']}")
    if fit.state.learning["advice"]:
        fit.say(f"advice: {fit.state.learning['advice']}")
    fit.save()
