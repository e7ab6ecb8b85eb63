"""What a job's figures come to, in plain words, and what to change."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from container.hyperparameters import UNTRAINED, frozen_untrained
from container.monitoring.profiler.advice import WORTHWHILE, Recommendation, less
from container.monitoring.profiler.advice.job import (
    checkpoint_advice,
    compilation_advice,
    patience_advice,
    validation_advice,
)
from container.monitoring.profiler.advice.learning import has_fallen, learning_advice
from container.monitoring.profiler.advice.speed import (
    batch_size_advice,
    compile_advice,
    in_memory,
    instance_advice,
    loading_advice,
    precision_advice,
    price_advice,
    threads_advice,
    too_many_workers,
)
from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.outcome import FIRED, RuleOutcome, describe, short, starved
from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.units import factor, percent, plain, points, seconds

ADVISERS: tuple[Callable[[ProfileMetrics], Iterator[Recommendation]], ...] = (
    learning_advice,
    loading_advice,
    precision_advice,
    threads_advice,
    batch_size_advice,
    patience_advice,
    compile_advice,
    compilation_advice,
    checkpoint_advice,
    validation_advice,
    too_many_workers,
    instance_advice,
    price_advice,
)
WAITING = 0.05
"""Share of a step from which on its wait for data is named first."""
STARTING = 0.2
"""Share of a job from which on its initialisation or finalisation is worth a sentence."""
NAMED_RULES = 6
"""Debugger rules whose reasons are given one by one."""
UNEVEN = 1.1
"""Times the mean that the slowest rank may compute before the ranks count as unequal."""
NAMED = {
    "forward": "the forward pass",
    "backward": "the backward pass",
    "data": "waiting for data",
    "copy": "copying to the GPU",
    "augment": "augmentation",
    "optimizer": "the optimizer",
    "metrics": "counting hits and losses",
    "debug": "keeping tensors",
    "profiler": "recording operators",
    "checkpoint": "checkpoints",
    "unaccounted": "outside any phase",
}

Tone = Literal["healthy", "improvable", "troubled", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """What to think of a job.

    Attributes:
        tone: healthy (nothing worth changing), improvable (time to gain), troubled (a debugger rule
            fired), unknown (too little was recorded to tell).
        sentences: plain words, the most important first; never empty.
        recommendations: what to change: learning first, then by how much faster; what has a price
            comes last.
    """

    tone: Tone
    sentences: tuple[str, ...]
    recommendations: tuple[Recommendation, ...]

    def as_json(self) -> dict[str, Any]:
        """The attributes by name."""
        return {
            "tone": self.tone,
            "sentences": list(self.sentences),
            "recommendations": [each.as_json() for each in self.recommendations],
        }


def verdict(
    recording: Recording, outcomes: Sequence[RuleOutcome], metrics: ProfileMetrics | None = None
) -> Verdict:
    """Judge a job by what it recorded and what the rules found.

    Args:
        recording: what was recorded.
        outcomes: what the profiler's rules made of it.
        metrics: the recording's metrics with these outcomes, where they are computed already.
    """
    metrics = metrics or ProfileMetrics(recording, outcomes)
    advice = _advice(metrics)
    tone = _tone(metrics, advice)
    random = metrics.setting("freeze") is True and frozen_untrained(
        True, str(metrics.setting("weights"))
    )
    warning = (f"{UNTRAINED[0].upper()}{UNTRAINED[1:]}.",) if random else ()
    sentences = (*_headlines(metrics, advice, tone), *warning, *_findings(metrics))
    return Verdict(tone, tuple(filter(None, sentences)), advice)


def _advice(metrics: ProfileMetrics) -> tuple[Recommendation, ...]:
    """Everything the advisers say, the first word on each hyperparameter only."""
    found: dict[str, Recommendation] = {}
    for adviser in ADVISERS:
        for each in adviser(metrics):
            found.setdefault(each.hyperparameter, each)
    order = {"learning": 0, "speed": 1, "price": 2}
    return tuple(sorted(found.values(), key=lambda e: (order[e.kind], -(e.factor or 1.0))))


def _tone(metrics: ProfileMetrics, advice: Iterable[Recommendation]) -> Tone:
    if _alarms(metrics):
        return "troubled"
    if metrics.steps is None:
        return "unknown"
    worth = any(a.kind == "speed" and (a.factor or 1) >= WORTHWHILE for a in advice)
    serious = any(r["kind"] == "profiler" and r["status"] == FIRED for r in metrics.rules)
    return "improvable" if worth or serious or metrics.waiting >= WAITING else "healthy"


def _headlines(
    metrics: ProfileMetrics, advice: Sequence[Recommendation], tone: Tone
) -> Iterator[str]:
    """What matters most: learning that went wrong, then where the time goes."""
    rows = _alarms(metrics)
    if len(rows) == 1:
        yield f"{describe(rows[0])}."
    elif rows:
        yield f"{_list([row['name'] for row in rows])} fired."
        yield from (f"{describe(row)}." for row in rows[:NAMED_RULES])
    if metrics.steps is not None:
        yield from _speed(metrics, advice, tone)
        for row in _fired(metrics):
            if row not in rows:
                yield f"{describe(row)}; over the whole job it fell."
        return
    learned = metrics.learning["steps"] or metrics.learning["epochs"]
    if not len(metrics.recording.system) and not learned and not rows:
        yield "Nothing was recorded, so there is nothing to judge."
        return
    yield "No training step was recorded, so nothing tells where a step's time goes."


def _fired(metrics: ProfileMetrics) -> list[dict[str, Any]]:
    return [r for r in metrics.rules if r["kind"] == "debugger" and r["status"] == FIRED]


def _alarms(metrics: ProfileMetrics) -> list[dict[str, Any]]:
    """The debugger rules that fired; a loss that rose from one batch to another but fell over the
    whole job is none."""
    return [
        row
        for row in _fired(metrics)
        if row["rule"] != "LossNotDecreasing" or not has_fallen(metrics)
    ]


def _speed(metrics: ProfileMetrics, advice: Sequence[Recommendation], tone: Tone) -> Iterator[str]:
    """What the steps' time is lost to, and the changes that gain most."""
    wait, compute = metrics.waiting, metrics.phase("forward", "backward")
    speed = [a for a in advice if a.kind == "speed" and a.factor and a.factor >= WORTHWHILE]
    if tone == "healthy" or (tone == "troubled" and not speed and wait < WAITING):
        if not metrics.framework["phases"]:
            yield "Nothing was found to change, though steps were recorded without their phases."
            return
        begin = "Healthy" if tone == "healthy" else "The speed is healthy"
        least = f"{100 * (WORTHWHILE - 1):.0f} %"
        yield (
            f"{begin}: {percent(compute)} of every training step is computing, and no change of "
            f"hyperparameters that keeps the model would gain {least} or more."
        )
    elif wait >= WAITING:
        who = "GPU" if metrics.on_gpu else "network"
        tries = _list([f"{a.hyperparameter}={plain(a.to)}" for a in speed[:2]], "or")
        tries = f"; try {tries}" if tries else ""
        yield f"The {who} waits {percent(wait)} of the time for data{tries}."
    elif speed:
        best = speed[0]
        gain = factor(best.factor or 1)
        yield f"Up to {gain} as fast with {best.hyperparameter}={plain(best.to)}."
    elif tone == "improvable":
        names = [r["name"] for r in metrics.rules if r["status"] == FIRED]
        them = "it" if len(names) == 1 else "them"
        yield f"{_list(names)} fired, but no hyperparameter answers {them}."


def _findings(metrics: ProfileMetrics) -> Iterator[str]:
    """The sentences below the first."""
    yield from _step(metrics)
    yield from _machine(metrics)
    yield from _job(metrics)
    yield from _ranks(metrics)
    yield from _slow_steps(metrics)
    yield from _learned(metrics)
    yield from _rules(metrics)


def _step(metrics: ProfileMetrics) -> Iterator[str]:
    steps = metrics.steps
    if steps is None:
        return
    ranked = sorted(metrics.framework["phases"], key=lambda row: -row["seconds"])
    parts = [
        f"{percent(row['share'])} is {NAMED.get(row['phase'], row['phase'])}"
        for row in ranked[:4]
        if (row["share"] or 0) >= 0.02
    ]
    if parts:
        yield f"Of a training step of {seconds(steps['p50'])}, {_list(parts)}."
    else:
        yield f"A training step takes {seconds(steps['p50'])}; its phases were not recorded."
    if metrics.waiting >= WAITING and in_memory(metrics):
        yield (
            "Images this small stay decoded in memory, where workers change nothing: the wait is "
            "for picking batches out of it."
        )
    hidden = metrics.phase("data") - metrics.waiting
    if hidden >= WAITING:
        yield (
            f"The loop waits {percent(metrics.phase('data'))} of a step for data, but the GPU "
            f"works on through all but {percent(metrics.waiting)} of it."
        )


def _machine(metrics: ProfileMetrics) -> Iterator[str]:
    used = []
    for metric, words in (
        ("GPU", "the GPU"),
        ("GPU memory", "its memory"),
        ("CPU", "the processors"),
        ("memory", "the memory"),
    ):
        found = metrics.use(metric, "p50")
        if found is not None and (metrics.on_gpu or not metric.startswith("GPU")):
            used.append(f"{words} {points(found)}")
    if used:
        yield f"In use while training, in the median: {_list(used)}."
    waiting = metrics.use("I/O wait", "p95")
    if waiting is not None and waiting >= 20:
        yield f"Processors wait for disks: the 95th percentile of I/O wait is {points(waiting)}."


def _job(metrics: ProfileMetrics) -> Iterator[str]:
    job = metrics.job
    for part, words in (("initialisation", "before the first step"), ("finalisation", "after it")):
        found = job[part]
        if found and found["share"] and found["share"] >= STARTING and job["training_loop"]:
            loop = job["training_loop"]["share"] or 0.0
            where = words if part == "initialisation" else "after the last step"
            yield (
                f"{seconds(found['seconds'])}, {percent(found['share'])} of the job, passed "
                f"{where}: faster steps make the whole job at most {factor(less(loop))} as fast."
            )


def _ranks(metrics: ProfileMetrics) -> Iterator[str]:
    rows = metrics.steps["by_rank"] if metrics.steps else []
    work = [row["compute"] for row in rows if row["compute"]]
    if len(work) < 2:
        return
    mean = sum(work) / len(work)
    if max(work) > UNEVEN * mean:
        slowest = max(rows, key=lambda row: row["compute"])
        yield (
            f"Ranks work unequally: rank {slowest['rank']} on {slowest['node']} computes "
            f"{seconds(slowest['compute'])} a step where the mean is {seconds(mean)}; the others "
            f"wait for it, and equal work would make steps {factor(max(work) / mean)} as fast."
        )


def _slow_steps(metrics: ProfileMetrics) -> Iterator[str]:
    steps, total = metrics.steps, metrics.training_seconds if metrics.steps else 0.0
    if steps is None or not steps["outliers"] or not total:
        return
    share = steps["excess"] / (total * max(1, metrics.framework["ranks"]))
    if share < 0.01:
        return
    blame = steps["blame"]
    cause = f", most of it {NAMED.get(blame['phase'], blame['phase'])}" if blame else ""
    yield (
        f"{steps['outliers']} of {steps['steps']} steps took longer than {seconds(steps['limit'])} "
        f"and cost {percent(share)} of the training time{cause}."
    )


def _learned(metrics: ProfileMetrics) -> Iterator[str]:
    learning = metrics.learning
    best = learning["best_epoch"]
    if best is not None:
        row = next(row for row in learning["epochs"] if row["epoch"] == best)
        yield (
            f"The best validation accuracy is {percent(row['validation:accuracy'])}, in epoch "
            f"{best} of {len(learning['epochs'])}."
        )
    elif learning["loss"]:
        loss = learning["loss"]
        yield f"The loss went from {loss['first']:.3g} to {loss['last']:.3g}."


def _rules(metrics: ProfileMetrics) -> Iterator[str]:
    rows = metrics.rules
    if not rows:
        return
    names = [row["name"] for row in rows if row["status"] == FIRED]
    few = sum(map(short, rows))
    without = sum(map(starved, rows)) - few
    failed = [row["name"] for row in rows if row["status"] == "Error"]
    sentence = (
        f"Of {len(rows)} rules {_list(names)} fired"
        if names
        else f"None of {len(rows)} rules fired"
    )
    if few:
        sentence += f"; {few} had too few data points to judge"
    if without:
        sentence += f"; {without} had nothing to judge"
    yield f"{sentence}."
    if failed:
        yield f"{_list(failed)} could not be evaluated."


def _list(words: Sequence[str], joint: str = "and") -> str:
    """One, two and three."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {joint} {words[-1]}"
