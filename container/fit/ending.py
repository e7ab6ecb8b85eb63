"""The end of a fit job: the chosen classifier, its artifact, its evaluation and the report."""

from dataclasses import replace
from typing import Any

from container.errors import TrainingError
from container.features.job import JobFeatures
from container.fit.backbones import SizedBackbone
from container.fit.budget import spoken
from container.fit.context import FitContext
from container.fit.finetuning import with_recipe
from container.fit.leaderboard import Leaderboard, LeaderboardEntry
from container.fit.report.output import write_fit
from container.models import load_tensors
from container.results.export import write_artifact
from container.results.finalize import describe, finish, held_out_pixels
from container.training.callbacks import Callback
from container.training.metrics import MetricLogger
from container.training.state import TrainingProgress


def probe_progress(entry: LeaderboardEntry) -> TrainingProgress:
    """A probe's metrics as the progress of a run of one epoch."""
    record: dict[str, float | None] = {
        "epoch": 1,
        "train:loss": None,
        "train:accuracy": None,
        "validation:loss": entry.validation.loss,
        "validation:accuracy": entry.validation.accuracy,
        "learning_rate": None,
    }
    best = entry.validation.accuracy
    return TrainingProgress(epoch=1, best=best, best_epoch=1, history=[record])


def write_model(backbone: SizedBackbone, progress: TrainingProgress, *, export: bool) -> None:
    """Write the backbone's classifier as the job's model."""
    artifact = describe(backbone.job, backbone.start, progress)
    pixels = held_out_pixels(backbone.job) if export else None
    write_artifact(artifact, backbone.classifier, pixels, lambda _line: None)


def kept(fit: FitContext, board: Leaderboard) -> tuple[SizedBackbone, TrainingProgress]:
    """A leaderboard's chosen classifier, with its weights loaded, and its training progress.

    With a test split, the best probe is one fitted to the validation images as well.

    Raises:
        TrainingError: the weights of a fine-tuning round are lost.
    """
    state, chosen = fit.state, board.chosen
    if chosen.kind == "probe":
        fit.forget(chosen.arch, chosen.image_size)
        backbone = fit.of(chosen)
        final = state.final if chosen is board.best_probe else None
        backbone.use_probe(final or state.probes[board.entries.index(chosen)])
        return backbone, probe_progress(chosen)
    backbone = fit.of(chosen)
    at = [each for each in board.entries if each.kind == "fine-tuned"].index(chosen)
    planned = state.rounds[at]
    job = with_recipe(backbone, planned.hyperparameters)
    best = job.checkpoints(fit.round_folder(at + 1), fit.say).load_best()
    if best is None:
        raise TrainingError(f"checkpoints: found no weights of round {at + 1}, which was best")
    load_tensors(backbone.classifier.network, best.tensors)
    progress = TrainingProgress(
        epoch=len(planned.history),
        best=chosen.validation.accuracy,
        best_epoch=planned.best_epoch,
        history=planned.history,
    )
    return replace(backbone, job=job), progress


def finish_fit(fit: FitContext, metrics: MetricLogger) -> None:
    """Write the model, its evaluation and the job's report."""
    board = fit.state.board
    chosen = board.chosen
    if fit.state.rounds:
        for line in board.lines():
            fit.say(line)
    fit.choose(f"the {chosen.name}", _why(fit, chosen))
    backbone, progress = kept(fit, board)
    metrics.restore([])
    for record in progress.history:
        metrics.epoch({name: value for name, value in record.items() if value is not None})
    finish(
        backbone.job,
        backbone.classifier,
        describe(backbone.job, backbone.start, progress),
        progress,
        Callback(),
        metrics,
        export=fit.export,
        shortcut=_shortcut(fit, backbone, chosen),
    )
    write_fit(fit.state, fit.budget, fit.data.environment.output_data_dir)
    budget = fit.budget
    fit.say(f"fit: {spoken(budget.elapsed)} of {spoken(budget.seconds)} used")


def _why(fit: FitContext, chosen: LeaderboardEntry) -> str:
    if chosen.kind == "fine-tuned":
        return "it is the best on the validation images"
    why = "no network was fine-tuned"
    if fit.state.rounds:
        why = "no fine-tuned network was better on the validation images"
    if fit.state.final is not None:
        why += "; it is fitted to those as well, as a test split is held out"
    return why


def _shortcut(fit: FitContext, backbone: SizedBackbone, chosen: LeaderboardEntry) -> Any:
    """The probe's features, which speed up the evaluation; None if there are none."""
    found = fit.features.get((chosen.arch, chosen.image_size))
    if chosen.kind != "probe" or found is None:
        return None
    train, validation = found
    test = fit.data.splits.test
    tested = None if test is None else backbone.extractor.extract(test, name="test")
    features = JobFeatures(backbone.job, backbone.extractor, [train], validation, tested)
    return features.shortcut(backbone.classifier, backbone.head, fit.say)
