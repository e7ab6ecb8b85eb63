"""Advice on waiting for data: more loader processes, or more cores for them."""

import math
from collections.abc import Iterator

from container.monitoring.profiler.advice.recommendation import (
    WORTHWHILE,
    Recommendation,
    steps_faster,
)
from container.monitoring.profiler.figures.rules import fired
from container.monitoring.profiler.figures.whole import Figures
from container.monitoring.profiler.units import factor, percent

WAIT = 0.05
"""From this share of a step on, waiting for data is worth a word."""
KEPT_SIDE, KEPT_BYTES = 64, 1 << 30
"""Images up to this side and this much of them stay decoded in memory: the loader has no workers
then, so their number changes nothing; see `container.data.loader`."""


def loading_advice(figures: Figures) -> Iterator[Recommendation]:
    """More workers where a step waits for data.

    A step of length 1 waits a share w and computes 1 − w. Where steps wait, the loader is what
    limits them: K workers need K of such steps for one batch, so K′ bring the step down to
    max(1 − w, K / K′), and K / (1 − w) workers remove the wait; one to spare is advised. Without
    workers (K = 0) loading and computing take turns, a batch loads in w, and K′ give
    max(1 − w, w / K′).

    Processors bound it: where the network trains on them too and they are busy a share u of the
    time, the work in a step is u and no number of workers makes steps more than 1 / u times faster.
    """
    wait = figures.waiting
    if wait < WAIT or in_memory(figures):
        return
    workers, cores = _workers(figures), cores_of_a_process(figures)
    if workers is None:
        if cores is not None:
            yield _unknown_workers(figures, wait, cores)
        return
    wanted = math.ceil(wait / (1 - wait) if workers == 0 else workers / (1 - wait))
    wanted = max(wanted, workers + 1)
    most = wanted if cores is None else cores
    busy = figures.use("CPU")
    rules = _rules(figures)
    if most > workers:
        to = min(wanted + 1, most)
        step = max(1 - wait, wait / to if workers == 0 else workers / to)
        formula = f"1 / max(1 − {wait:.2f}, {wait if workers == 0 else workers:.3g} / {to})"
        gain = 1 / step
        if not figures.on_gpu and busy:
            gain = min(gain, 100 / busy)
            formula = f"min({formula}, 1 / {busy / 100:.2f})"
        if gain >= WORTHWHILE:
            yield Recommendation(
                "workers",
                workers,
                to,
                f"{percent(wait)} of a training step is waiting for data, which "
                f"{'nothing loads ahead' if workers == 0 else f'{workers} loader processes bring'}",
                steps_faster(gain, _training_share(figures)),
                gain,
                f"{formula} = {gain:.2f}",
                rules=rules,
            )
            return
    if cores is not None and figures.on_gpu:
        gain = 1 / (1 - wait)
        yield Recommendation(
            "instance_type",
            f"{cores} cores a process",
            f"{wanted} cores or more",
            f"{percent(wait)} of a training step is waiting for data though {workers} loader "
            f"processes already use the {cores} cores there are",
            f"{steps_faster(gain, _training_share(figures))}, with workers={wanted}",
            gain,
            f"1 / (1 − {wait:.2f}) = {gain:.2f}",
            rules=rules,
        )
        return
    if cores is not None and busy is not None and busy > 85:
        yield Recommendation(
            "instance_type",
            f"{cores} cores",
            "more cores",
            f"{percent(wait)} of a training step is waiting for data while the processors, which "
            f"load and train, are {busy:.0f} % busy",
            f"steps up to {factor(1 / (1 - wait))} as fast once loading has cores of its own",
            1 / (1 - wait),
            f"1 / (1 − {wait:.2f}) = {1 / (1 - wait):.2f}",
            rules=rules,
        )


def _unknown_workers(figures: Figures, wait: float, cores: int) -> Recommendation:
    """One worker a core, where nothing tells how many there were."""
    gain = 1 / (1 - wait)
    return Recommendation(
        "workers",
        None,
        cores,
        f"{percent(wait)} of a training step is waiting for data; how many loader processes there "
        f"were is not recorded, and {cores} is one a core",
        steps_faster(gain, _training_share(figures)),
        gain,
        f"1 / (1 − {wait:.2f}) = {gain:.2f}",
        rules=_rules(figures),
    )


def too_many_workers(figures: Figures) -> Iterator[Recommendation]:
    """Fewer workers where the Dataloader rule counts more than cores and no step waits for them.

    Nothing is gained in time; each worker that goes frees the batches it held ready.
    """
    rule = fired(figures.rules, "Dataloader")
    workers, cores = _workers(figures), cores_of_a_process(figures)
    wait = figures.waiting
    if rule is None or not workers or not cores or workers <= cores or wait >= WAIT:
        return
    yield Recommendation(
        "workers",
        workers,
        cores,
        f"{workers} loader processes share {cores} cores, and steps wait only {percent(wait)} of "
        "their time for data",
        f"the memory of {workers - cores} processes; steps stay as fast",
        rules=(rule["name"],),
    )


def in_memory(figures: Figures) -> bool:
    """Whether the images stay decoded in memory, so that no workers load them."""
    side, images = figures.setting("image_size"), figures.job["train_images"]
    if side is None or side > KEPT_SIDE:
        return False
    return images is None or images * side * side * 3 <= KEPT_BYTES


def _workers(figures: Figures) -> int | None:
    """Loader processes a rank has; berth's default is one a core, at most 8."""
    workers = figures.setting("workers")
    if workers is not None:
        return int(workers)
    cores = cores_of_a_process(figures)
    if cores is None or not figures.recording.job.get("hyperparameters"):
        return None
    return min(8, cores)


def cores_of_a_process(figures: Figures) -> int | None:
    """Cores that each rank of a host has to itself; None where they are not known."""
    cores, world = figures.job["cores"], figures.job["world"] or 1
    if not cores:
        return None
    return max(1, int(cores / max(1, world / max(1, len(figures.job["hosts"])))))


def _training_share(figures: Figures) -> float | None:
    duration = figures.job["duration"]
    return figures.training_seconds / duration if duration else None


def _rules(figures: Figures) -> tuple[str, ...]:
    names = ("CPUBottleneck", "IOBottleneck", "Dataloader", "LowGPUUtilization")
    return tuple(row["name"] for name in names if (row := fired(figures.rules, name)))
