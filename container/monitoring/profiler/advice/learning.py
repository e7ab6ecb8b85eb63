"""Advice on learning: what to change if a debugger rule fired.

Time is not the gain here, so each piece of advice says with what the job itself shows how much
there is to win.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from container.monitoring.profiler.advice import Recommendation
from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.metrics.learning import of_epoch
from container.monitoring.profiler.outcome import describe, fired
from container.monitoring.profiler.units import number, percent

Advice = Iterator[Recommendation]

FALLEN = 0.95
"""Share of its first value below which a loss has fallen, whatever it did in between."""


def learning_advice(metrics: ProfileMetrics) -> Advice:
    """At most one recommendation for each debugger rule that fired."""
    seen = set()
    for rule, advise in ADVISERS.items():
        row = fired(metrics.rules, rule)
        if row is None or row["kind"] != "debugger":
            continue
        for advice in advise(metrics, row):
            if advice.hyperparameter not in seen:
                seen.add(advice.hyperparameter)
                yield advice
                break


def _lower_rate(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    """Values out of range: a learning rate a third as high, after gradients are clipped."""
    norms, clip = metrics.learning["gradient_norm"], metrics.setting("gradient_clip")
    lost = metrics.learning["not_finite"]
    found = f"{describe(row)}; {lost} recorded losses are not finite" if lost else describe(row)
    if norms and norms["p50"] > 0 and clip in (0, 0.0):
        yield _advice(
            "gradient_clip",
            0,
            float(f"{norms['p50']:.1g}"),
            f"{found}; gradient norms are {number(norms['p50'])} in the middle and "
            f"{number(norms['max'])} at most",
            f"steps at most {norms['max'] / max(norms['p50'], 1e-12):.3g} times smaller where they "
            "were largest",
            row,
        )
    yield from _rate(metrics, row, 1 / 3, found)


def _vanishing(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    """Gradients that do not reach the first layers: start from trained weights."""
    norms = metrics.learning["gradient_norm"]
    found = describe(row) + (
        f"; the gradient norm is {number(norms['p50'])} in the middle" if norms else ""
    )
    if str(metrics.setting("weights")).lower() == "none":
        yield _advice(
            "weights", "none", "imagenet", found, "first layers that need no gradient to begin", row
        )
    arch = metrics.setting("arch")
    if isinstance(arch, str) and arch.startswith("vgg") and not arch.endswith("_bn"):
        yield _advice(
            "arch", arch, f"{arch}_bn", found, "normalised layers keep gradients in range", row
        )
    yield from _rate(metrics, row, 3, found)


def _warm_up(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    """Units killed by the first large steps: a warm-up, then a lower rate."""
    if metrics.setting("warmup_epochs") in (0, 0.0):
        yield _advice(
            "warmup_epochs",
            0,
            1,
            f"{describe(row)}, from step {row['steps'][0]} on" if row["steps"] else describe(row),
            "small first steps, which leave the units alive",
            row,
        )
    yield from _rate(metrics, row, 1 / 3, describe(row))


def _initialisation(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    if str(metrics.setting("weights")).lower() == "none":
        yield _advice(
            "weights",
            "none",
            "imagenet",
            describe(row),
            "weights whose variance is known to be right",
            row,
        )
    yield from _warm_up(metrics, row)


def _update_ratio(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    """Too large or too small: the rule's reason tells which; else nothing is advised."""
    reason = str(row["reason"]).lower()
    if "less than" in reason or "below" in reason:
        yield from _rate(metrics, row, 3, describe(row))
    elif "more than" in reason or "above" in reason:
        yield from _rate(metrics, row, 1 / 3, describe(row))


def _imbalance(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    """Weights for rare classes, unless the rule says that classes are mistaken, not rare."""
    if "mispredicted" in str(row["reason"]) and "to 1" not in str(row["reason"]):
        return
    if metrics.setting("class_weights") == "none":
        yield _advice(
            "class_weights",
            "none",
            "balanced",
            describe(row),
            "rare classes count as much as frequent ones",
            row,
        )


def has_fallen(metrics: ProfileMetrics) -> bool:
    """Whether the training loss ended clearly lower than it began."""
    loss = metrics.learning["loss"]
    return loss is not None and loss["last"] <= FALLEN * loss["first"]


def _not_decreasing(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    """A loss that rises wants smaller steps, one that never fell larger ones, one that has fallen
    and stands still a rate that goes down; one that did fall, a rule that looks at more of it."""
    loss = metrics.learning["loss"]
    if loss is None:
        return
    found = f"{describe(row)}; the loss went from {loss['first']:.3g} to {loss['last']:.3g}"
    if loss["last"] > 1.02 * loss["first"]:
        yield from _rate(metrics, row, 0.1, found)
    elif not has_fallen(metrics):
        yield from _rate(metrics, row, 3, found)
    elif metrics.setting("schedule") == "constant":
        yield _advice(
            "schedule",
            "constant",
            "cosine",
            found,
            f"a lowest loss of {loss['min']:.3g} was seen on the way, "
            f"{percent(1 - loss['min'] / loss['last'])} below where it stands",
            row,
        )
    elif steps := row["parameters"].get("num_steps"):
        yield _advice(
            "rule_parameters",
            f"LossNotDecreasing_num_steps={steps}",
            f"LossNotDecreasing_num_steps={2 * int(steps)}",
            f"{found}, {percent(1 - loss['last'] / loss['first'])} lower: batches differ, and the "
            "rule compares single ones",
            "a rule that fires for a loss that stands still over twice as many steps",
            row,
        )


def _overfit(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    """The next stronger regularisation that is not in use yet."""
    learning = metrics.learning
    lowest = learning["lowest_loss_epoch"]
    train = of_epoch(learning, None, "train:loss")
    last = of_epoch(learning, None, "validation:loss")
    best = of_epoch(learning, lowest, "validation:loss")
    found, gain = describe(row), "training and validation losses that stay together"
    if train is not None and last is not None:
        found += f"; the last epoch's losses are {train:.3g} in training, {last:.3g} in validation"
    if lowest is not None and best is not None and last:
        gain = (
            f"a validation loss {percent(1 - best / last)} lower: {best:.3g} was reached in epoch "
            f"{lowest}"
            if best < 0.99 * last
            else f"a validation loss nearer the training loss of {train:.3g}"
        )
    for name, at, to in (
        ("augment", "none", "standard"),
        ("augment", "standard", "strong"),
        ("mixup", 0, 0.2),
        ("label_smoothing", 0, 0.1),
        ("dropout", 0, 0.2),
        ("ema", 0, 0.999),
    ):
        if metrics.setting(name) == at:
            yield _advice(name, at, to, found, gain, row)


def _overtrained(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    """The number of epochs that were enough."""
    best, epochs = metrics.learning["best_epoch"], metrics.setting("epochs")
    done = len(metrics.learning["epochs"])
    if best is None or not epochs or best >= done:
        return
    yield _advice(
        "epochs",
        int(epochs),
        best + 1,
        f"{describe(row)}; the best validation accuracy came in epoch {best} of {done}",
        f"the same model after {percent((best + 1) / done)} of the epochs",
        row,
    )


def _unchanged(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    if metrics.setting("freeze") is True:
        yield _advice("freeze", True, False, describe(row), "a backbone that learns as well", row)


def _same_seed(metrics: ProfileMetrics, row: Mapping[str, Any]) -> Advice:
    seed = metrics.setting("seed")
    if seed is not None:
        yield _advice("seed", seed, int(seed) + 1, describe(row), "a run that differs", row)


ADVISERS: Mapping[str, Callable[[ProfileMetrics, Mapping[str, Any]], Advice]] = {
    "ExplodingTensor": _lower_rate,
    "VanishingGradient": _vanishing,
    "DeadRelu": _warm_up,
    "SaturatedActivation": _warm_up,
    "PoorWeightInitialization": _initialisation,
    "WeightUpdateRatio": _update_ratio,
    "LossNotDecreasing": _not_decreasing,
    "Overfit": _overfit,
    "Overtraining": _overtrained,
    "ClassImbalance": _imbalance,
    "Confusion": _imbalance,
    "UnchangedTensor": _unchanged,
    "SimilarAcrossRuns": _same_seed,
}
"""Rules that a hyperparameter can answer, the most urgent first."""


def _rate(metrics: ProfileMetrics, row: Mapping[str, Any], times: float, found: str) -> Advice:
    try:
        rate = float(metrics.setting("learning_rate"))
    except (TypeError, ValueError):
        return
    words = (
        f"steps {times:g} times as large" if times > 1 else f"steps {1 / times:.0f} times smaller"
    )
    yield _advice("learning_rate", rate, float(f"{rate * times:.2g}"), found, words, row)


def _advice(
    hyperparameter: str, current: Any, to: Any, why: str, gain: str, row: Mapping[str, Any]
) -> Recommendation:
    return Recommendation(
        hyperparameter, current, to, why, gain, kind="learning", rules=(row["name"],)
    )
