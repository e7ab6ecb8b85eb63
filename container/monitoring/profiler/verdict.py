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
from container.monitoring.profiler.outcome import FIRED, RuleOutcome, said, short, starved
from container.monitoring.profiler.reading import Recording
from container.monitoring.profiler.units import factor, percent, points, seconds

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
"""Debugger rules whose reasons are told one by one."""
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
    recording: Recording, outcomes: Sequence[RuleOutcome], figures: ProfileMetrics | None = None
) -> Verdict:
    """Judge a job by what it recorded and what the rules found.

    Args:
        recording: what was recorded.
        outcomes: what the profiler's rules made of it.
        figures: theirs, where they have been worked out already.
    """
    figures = figures or ProfileMetrics(recording, outcomes)
    advice = _advice(figures)
    tone = _tone(figures, advice)
    random = figures.setting("freeze") is True and frozen_untrained(
        True, str(figures.setting("weights"))
    )
    warning = (f"{UNTRAINED[0].upper()}{UNTRAINED[1:]}.",) if random else ()
    sentences = (*_headlines(figures, advice, tone), *warning, *_findings(figures))
    return Verdict(tone, tuple(filter(None, sentences)), advice)


def _advice(figures: ProfileMetrics) -> tuple[Recommendation, ...]:
    """Everything the advisers say, the first word on each hyperparameter only."""
    found: dict[str, Recommendation] = {}
    for adviser in ADVISERS:
        for each in adviser(figures):
            found.setdefault(each.hyperparameter, each)
    order = {"learning": 0, "speed": 1, "price": 2}
    return tuple(sorted(found.values(), key=lambda e: (order[e.kind], -(e.factor or 1.0))))


def _tone(figures: ProfileMetrics, advice: Iterable[Recommendation]) -> Tone:
    if _alarms(figures):
        return "troubled"
    if figures.steps is None:
        return "unknown"
    worth = any(a.kind == "speed" and (a.factor or 1) >= WORTHWHILE for a in advice)
    serious = any(r["kind"] == "profiler" and r["status"] == FIRED for r in figures.rules)
    return "improvable" if worth or serious or figures.waiting >= WAITING else "healthy"


def _headlines(
    figures: ProfileMetrics, advice: Sequence[Recommendation], tone: Tone
) -> Iterator[str]:
    """What matters most: learning that went wrong, then where the time goes."""
    rows = _alarms(figures)
    if len(rows) == 1:
        yield f"{said(rows[0])}."
    elif rows:
        yield f"{_list([row['name'] for row in rows])} fired."
        yield from (f"{said(row)}." for row in rows[:NAMED_RULES])
    if figures.steps is not None:
        yield from _speed(figures, advice, tone)
        for row in _fired(figures):
            if row not in rows:
                yield f"{said(row)}; over the whole job it fell."
        return
    learned = figures.learning["steps"] or figures.learning["epochs"]
    if not len(figures.recording.system) and not learned and not rows:
        yield "Nothing was recorded, so there is nothing to judge."
        return
    yield "No training step was recorded, so nothing tells where a step's time goes."


def _fired(figures: ProfileMetrics) -> list[dict[str, Any]]:
    return [r for r in figures.rules if r["kind"] == "debugger" and r["status"] == FIRED]


def _alarms(figures: ProfileMetrics) -> list[dict[str, Any]]:
    """The debugger rules that fired; a loss that rose from one batch to another but fell over the
    whole job is none."""
    return [
        row
        for row in _fired(figures)
        if row["rule"] != "LossNotDecreasing" or not has_fallen(figures)
    ]


def _speed(figures: ProfileMetrics, advice: Sequence[Recommendation], tone: Tone) -> Iterator[str]:
    """What the steps' time is lost to, and the changes that gain most."""
    wait, compute = figures.waiting, figures.phase("forward", "backward")
    speed = [a for a in advice if a.kind == "speed" and a.factor and a.factor >= WORTHWHILE]
    if tone == "healthy" or (tone == "troubled" and not speed and wait < WAITING):
        if not figures.framework["phases"]:
            yield "Nothing was found to change, though steps were recorded without their phases."
            return
        begin = "Healthy" if tone == "healthy" else "The speed is healthy"
        least = f"{100 * (WORTHWHILE - 1):.0f} %"
        yield (
            f"{begin}: {percent(compute)} of every training step is computing, and no change of "
            f"hyperparameters that keeps the model would gain {least} or more."
        )
    elif wait >= WAITING:
        who = "GPU" if figures.on_gpu else "network"
        tries = _list([f"{a.hyperparameter}={_plain(a.to)}" for a in speed[:2]], "or")
        tries = f"; try {tries}" if tries else ""
        yield f"The {who} waits {percent(wait)} of the time for data{tries}."
    elif speed:
        best = speed[0]
        gain = factor(best.factor or 1)
        yield f"Up to {gain} as fast with {best.hyperparameter}={_plain(best.to)}."
    elif tone == "improvable":
        names = [r["name"] for r in figures.rules if r["status"] == FIRED]
        them = "it" if len(names) == 1 else "them"
        yield f"{_list(names)} fired, but no hyperparameter answers {them}."


def _findings(figures: ProfileMetrics) -> Iterator[str]:
    """The sentences below the first."""
    yield from _step(figures)
    yield from _machine(figures)
    yield from _job(figures)
    yield from _ranks(figures)
    yield from _slow_steps(figures)
    yield from _learned(figures)
    yield from _rules(figures)


def _step(figures: ProfileMetrics) -> Iterator[str]:
    steps = figures.steps
    if steps is None:
        return
    ranked = sorted(figures.framework["phases"], key=lambda row: -row["seconds"])
    told = [
        f"{percent(row['share'])} is {NAMED.get(row['phase'], row['phase'])}"
        for row in ranked[:4]
        if (row["share"] or 0) >= 0.02
    ]
    if told:
        yield f"Of a training step of {seconds(steps['p50'])}, {_list(told)}."
    else:
        yield f"A training step takes {seconds(steps['p50'])}; its phases were not recorded."
    if figures.waiting >= WAITING and in_memory(figures):
        yield (
            "Images this small stay decoded in memory, where workers change nothing: the wait is "
            "for picking batches out of it."
        )
    hidden = figures.phase("data") - figures.waiting
    if hidden >= WAITING:
        yield (
            f"The loop waits {percent(figures.phase('data'))} of a step for data, but the GPU "
            f"works on through all but {percent(figures.waiting)} of it."
        )


def _machine(figures: ProfileMetrics) -> Iterator[str]:
    told = []
    for metric, words in (
        ("GPU", "the GPU"),
        ("GPU memory", "its memory"),
        ("CPU", "the processors"),
        ("memory", "the memory"),
    ):
        found = figures.use(metric, "p50")
        if found is not None and (figures.on_gpu or not metric.startswith("GPU")):
            told.append(f"{words} {points(found)}")
    if told:
        yield f"In use while training, in the median: {_list(told)}."
    waiting = figures.use("I/O wait", "p95")
    if waiting is not None and waiting >= 20:
        yield f"Processors wait for disks: the 95th percentile of I/O wait is {points(waiting)}."


def _job(figures: ProfileMetrics) -> Iterator[str]:
    job = figures.job
    for part, words in (("initialisation", "before the first step"), ("finalisation", "after it")):
        found = job[part]
        if found and found["share"] and found["share"] >= STARTING and job["training_loop"]:
            loop = job["training_loop"]["share"] or 0.0
            where = words if part == "initialisation" else "after the last step"
            yield (
                f"{seconds(found['seconds'])}, {percent(found['share'])} of the job, passed "
                f"{where}: faster steps make the whole job at most {factor(less(loop))} as fast."
            )


def _ranks(figures: ProfileMetrics) -> Iterator[str]:
    rows = figures.steps["by_rank"] if figures.steps else []
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


def _slow_steps(figures: ProfileMetrics) -> Iterator[str]:
    steps, total = figures.steps, figures.training_seconds if figures.steps else 0.0
    if steps is None or not steps["outliers"] or not total:
        return
    share = steps["excess"] / (total * max(1, figures.framework["ranks"]))
    if share < 0.01:
        return
    blame = steps["blame"]
    cause = f", most of it {NAMED.get(blame['phase'], blame['phase'])}" if blame else ""
    yield (
        f"{steps['outliers']} of {steps['steps']} steps took longer than {seconds(steps['limit'])} "
        f"and cost {percent(share)} of the training time{cause}."
    )


def _learned(figures: ProfileMetrics) -> Iterator[str]:
    learning = figures.learning
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


def _rules(figures: ProfileMetrics) -> Iterator[str]:
    rows = figures.rules
    if not rows:
        return
    names = [row["name"] for row in rows if row["status"] == FIRED]
    few = sum(map(short, rows))
    without = sum(map(starved, rows)) - few
    failed = [row["name"] for row in rows if row["status"] == "Error"]
    told = (
        f"Of {len(rows)} rules {_list(names)} fired"
        if names
        else f"None of {len(rows)} rules fired"
    )
    if few:
        told += f"; {few} had too few data points to judge"
    if without:
        told += f"; {without} had nothing to judge"
    yield f"{told}."
    if failed:
        yield f"{_list(failed)} could not be evaluated."


def _list(words: Sequence[str], joint: str = "and") -> str:
    """One, two and three."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {joint} {words[-1]}"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
