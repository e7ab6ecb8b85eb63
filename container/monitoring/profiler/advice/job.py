"""Advice on checkpoints, validation, compiling and early stopping."""

import math
from collections.abc import Iterator

from container.monitoring.profiler.advice import (
    WORTHWHILE,
    Recommendation,
    job_faster,
    less,
)
from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.metrics.learning import of_epoch
from container.monitoring.profiler.outcome import fired
from container.monitoring.profiler.units import percent, seconds

CHECKPOINTS = 0.02
"""Share of the training loop that checkpoints may take before it is worth a word."""
SPARED = 0.01
"""The share they should take instead."""
LONGEST_MINUTES = 60.0
PATIENT = 3
"""Epochs without anything better that a job should wait for at least."""


def checkpoint_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """Rarer checkpoints within epochs.

    Checkpoints take a share c of the loop; of each epoch of e minutes, the floor(e / m) due every m
    minutes can be made rarer, the two at its end cannot. With m′ minutes a share
    c · (1 − m/m′) · (inner / all) is saved.
    """
    loop, minutes = metrics.job["training_loop"], metrics.setting("checkpoint_minutes")
    epochs = len(metrics.learning["epochs"])
    if not loop or not loop["seconds"] or not minutes or not epochs:
        return
    minutes = float(minutes)
    taken = metrics.seconds_of("checkpoint")
    share = taken / loop["seconds"]
    inner = math.floor(loop["seconds"] / epochs / 60 / minutes)
    if share < CHECKPOINTS or not inner:
        return
    longer = min(LONGEST_MINUTES, minutes * math.ceil(share / SPARED))
    saved = share * (1 - minutes / longer) * inner / (inner + 2) if longer > minutes else 0.0
    if less(saved) < WORTHWHILE:
        return
    yield Recommendation(
        "checkpoint_minutes",
        minutes,
        longer,
        f"checkpoints take {seconds(taken)}, {percent(share)} of the training loop",
        job_faster(saved * (loop["share"] or 1.0)),
        less(saved),
        f"1 / (1 − {share:.2f} · (1 − {minutes:g}/{longer:g}) · {inner}/{inner + 2}) "
        f"= {less(saved):.2f}",
    )


def validation_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """A smaller validation split where validation takes a good part of the loop.

    Validation's share v shrinks with the split: v · (1 − to/from) is saved. The price is a less
    certain accuracy, whose standard error grows with the root of from/to.
    """
    loop, split = metrics.job["training_loop"], metrics.setting("validation_split")
    if not loop or not loop["seconds"] or not split:
        return
    split = float(split)
    share = metrics.evaluation_seconds / loop["seconds"]
    if share < 0.15 or split < 0.15:
        return
    saved = share / 2
    yield Recommendation(
        "validation_split",
        split,
        round(split / 2, 3),
        f"validation takes {percent(share)} of the training loop; where the job has no validation "
        "channel, half the split halves that, and its accuracy is known 1.4 times less exactly",
        job_faster(saved * (loop["share"] or 1.0)),
        less(saved),
        f"1 / (1 − {share:.2f} / 2) = {less(saved):.2f}",
        kind="price",
    )


def patience_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """Early stopping where the last epochs brought nothing better.

    With the best of n epochs at b, a patience of p ends the job after b + p of them: the loop
    becomes n / (b + p) times shorter.
    """
    learning = metrics.learning
    epochs, best = len(learning["epochs"]), learning["best_epoch"]
    if best is None or metrics.setting("early_stopping_patience") != 0:
        return
    patience = max(PATIENT, math.ceil(epochs / 10))
    gain = epochs / (best + patience)
    if epochs - best <= patience or gain < 1.1:
        return
    accuracy = of_epoch(learning, best, "validation:accuracy")
    last = of_epoch(learning, None, "validation:accuracy")
    rule = fired(metrics.rules, "Overtraining")
    yield Recommendation(
        "early_stopping_patience",
        0,
        patience,
        f"the best validation accuracy ({percent(accuracy)}) was reached in epoch {best} of "
        f"{epochs}; the last one has {percent(last)}",
        f"{epochs - best - patience} of {epochs} epochs spared for the same model",
        gain,
        f"{epochs} / ({best} + {patience}) = {gain:.2f}",
        rules=(rule["name"],) if rule else (),
    )


def compilation_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """No compilation where the first step, which compiles, takes a good part of a short job.

    The first step beyond the median is a share i of the duration: 1 / (1 − i), less what compiled
    steps are faster.
    """
    duration, steps = metrics.job["duration"], metrics.steps
    if metrics.setting("compile") is not True or not duration or steps is None:
        return
    extra = steps["first"] - steps["p50"]
    share = extra / duration
    if share < 0.1:
        return
    yield Recommendation(
        "compile",
        True,
        False,
        f"the first step took {seconds(steps['first'])}, mostly compiling, of a job of "
        f"{seconds(duration)}",
        f"{job_faster(share)}, if compiled steps are no faster",
        less(share),
        f"1 / (1 − {share:.2f}) = {less(share):.2f}",
    )
