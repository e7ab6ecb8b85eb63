"""Advice on the computing in a step: batch size, precision, compilation, the instance."""

import math
import re
from collections.abc import Iterator

from container.monitoring.profiler.advice import (
    WORTHWHILE,
    Recommendation,
    less,
    steps_faster,
)
from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.metrics.steps import COMPUTE
from container.monitoring.profiler.outcome import fired
from container.monitoring.profiler.units import factor, percent, points

FULL = 85.0
"""Percent of memory a larger batch may fill: allocators need some room to move."""
FEWEST_STEPS = 20
"""Steps an epoch should keep, so that a larger batch still leaves enough updates to learn from."""
LARGEST = 8
"""Times the batch size at most in one go: learning rates do not carry over further than that."""
LARGER = 1.1
"""Gain from which on a larger batch is worth it: it also changes what is learned."""
ELEMENTWISE = ("relu", "batch_norm", "add", "mul", "copy_", "sigmoid", "silu", "hardswish", "gelu")
"""Operators that read and write every element once, which a compiler merges into others."""
LONG_LOOP = 600.0
"""Seconds a training loop must take to be worth compiling for, which takes about a minute."""

WAIT = 0.05
"""From this share of a step on, waiting for data is worth a word."""
KEPT_SIDE, KEPT_BYTES = 64, 1 << 30
"""Images up to this side and this much of them stay decoded in memory: the loader has no workers
then, so their number changes nothing; see `container.data.loader`."""


def batch_size_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """A larger batch where much of a step does not depend on the batch.

    Of a step of length 1, a part o is the same for any batch: the optimizer, the bookkeeping and
    what no phase claims; on a GPU, the time it idles though no data is awaited (launching work
    from Python) and the optimizer. A batch k times larger pays it once for k, so an epoch becomes
    1 / (1 − o·(1 − 1/k)) times faster. Memory bounds k: all of the p99 in use is taken to grow with
    the batch, which overestimates, up to 85 %.
    """
    batch = metrics.setting("batch_size")
    if not batch or not metrics.steps:
        return
    fixed, words = _fixed(metrics)
    times = _room(metrics, int(batch))
    if times < 2 or fixed <= 0:
        return
    gain = less(fixed * (1 - 1 / times))
    while times > 2 and less(fixed * (1 - 2 / times)) > 1 + 0.75 * (gain - 1):
        times //= 2
        gain = less(fixed * (1 - 1 / times))
    if gain < LARGER:
        return
    rules = tuple(
        row["name"]
        for name in ("BatchSize", "LowGPUUtilization")
        if (row := fired(metrics.rules, name))
    )
    yield Recommendation(
        "batch_size",
        int(batch),
        int(batch) * times,
        f"{percent(fixed)} of a step is the same for any batch ({words})",
        f"epochs up to {factor(gain)} as fast",
        gain,
        f"1 / (1 − {fixed:.2f} · (1 − 1/{times})) = {gain:.2f}",
        rules=rules,
        also=_learning_rate(metrics, times),
    )


def precision_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """Half precision on a GPU that computes in single precision.

    Halves the bytes of every activation and gradient, so that forward and backward, a share f of a
    step, take at best half as long: 1 / (1 − f/2).
    """
    compute = metrics.phase(*COMPUTE)
    if not metrics.on_gpu or metrics.setting("amp") != "off" or not compute:
        return
    gain = less(compute / 2)
    yield Recommendation(
        "amp",
        "off",
        "auto",
        f"{percent(compute)} of a step is forward and backward in single precision on a GPU",
        steps_faster(gain, None),
        gain,
        f"1 / (1 − {compute:.2f} / 2) = {gain:.2f}",
    )


def threads_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """More threads where the network computes on fewer than the cores that are idle.

    With t threads of c cores a process, of which a share u is busy, computing (a share f of a step)
    becomes at most s = min(c / t, 1 / u) times faster: 1 / (1 − f·(1 − 1/s)).
    """
    found = re.fullmatch(r"cpu with (\d+) threads?.*", str(metrics.job["device"]))
    cores, busy = cores_of_a_process(metrics), metrics.use("CPU")
    if found is None or not cores or not busy:
        return
    threads, compute = int(found[1]), metrics.phase(*COMPUTE)
    faster = min(cores / threads, 100 / busy) if threads else 1.0
    gain = less(compute * (1 - 1 / faster)) if faster > 1 else 1.0
    if gain < WORTHWHILE:
        return
    yield Recommendation(
        "OMP_NUM_THREADS",
        threads,
        cores,
        f"the network computes with {threads} threads on {cores} cores, which are {busy:.0f} % "
        "busy; this is a variable of the environment",
        steps_faster(gain, None),
        gain,
        f"1 / (1 − {compute:.2f} · (1 − 1/{faster:.2f})) = {gain:.2f}",
    )


def compile_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """Compilation where much of the computing is element by element and the loop is long.

    Element-wise operators, a share e of the operators' own time, are merged into their neighbours
    and at best vanish: with forward and backward a share f of a step, 1 / (1 − f·e).
    """
    loop = metrics.job["training_loop"]
    if metrics.setting("compile") is not False or not loop or loop["seconds"] < LONG_LOOP:
        return
    operators = metrics.framework["operators"]
    rows = operators.get("cuda") or operators.get("cpu") or []
    merged = sum(
        row["share"] or 0.0
        for row in rows
        if any(name in str(row["name"]).lower() for name in ELEMENTWISE)
    )
    compute = metrics.phase(*COMPUTE)
    gain = less(compute * merged)
    if merged < 0.1 or gain < WORTHWHILE:
        return
    yield Recommendation(
        "compile",
        False,
        True,
        f"{percent(merged)} of the operators' time goes into element-wise ones, which "
        "torch.compile merges",
        f"steps at best {factor(gain)} as fast, after about a minute of compiling",
        gain,
        f"1 / (1 − {compute:.2f} · {merged:.2f}) = {gain:.2f}",
    )


def instance_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """A smaller instance where the scarce resource is hardly used and nothing holds it up.

    The gain is one of money: at the 95th percentile the resource needs a share p of what is there.
    """
    metric = "GPU" if metrics.on_gpu else "CPU"
    used = metrics.use(metric, "p95")
    memory = metrics.use("GPU memory" if metrics.on_gpu else "memory", "p95")
    if used is None or used >= 40 or metrics.waiting >= 0.05 or not metrics.steps:
        return
    room = "" if memory is None else f", its memory {points(memory)}"
    yield Recommendation(
        "instance_type",
        None,
        "a smaller instance",
        f"95 % of the time the {metric} is used {points(used)} or less{room}, and no step waits "
        "for data",
        f"the same training on about {percent(max(used, memory or 0) / 100)} of the machine",
        kind="price",
        rules=tuple(r["name"] for n in ("BatchSize",) if (r := fired(metrics.rules, n))),
    )


def price_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """What makes computing cheaper at the price of accuracy, for jobs that do little else.

    With forward and backward a share f of a step: a smaller image, side s instead of S, leaves
    (s/S)² of it, 1 / (1 − f·(1 − (s/S)²)); a stem with a quarter of the work, 1 / (1 − ¾·f); a
    frozen backbone saves the backward pass, a share b, 1 / (1 − b); augmentation a step weaker
    saves at most its share a, 1 / (1 − a).
    """
    compute, backward = metrics.phase(*COMPUTE), metrics.phase("backward")
    augment = metrics.phase("augment")
    side = metrics.setting("image_size")
    if metrics.setting("augment") == "strong" and augment >= 0.1:
        gain = less(augment)
        yield Recommendation(
            "augment",
            "strong",
            "standard",
            f"{percent(augment)} of a step is augmentation; weaker augmentation generalises less",
            steps_faster(gain, None),
            gain,
            f"1 / (1 − {augment:.2f}) = {gain:.2f}",
            kind="price",
        )
    if compute < 0.7:
        return
    if metrics.setting("stem") == "full":
        gain = less(0.75 * compute)
        yield Recommendation(
            "stem",
            "full",
            "small",
            f"{percent(compute)} of a step is computing, and the small stem is a quarter of the "
            "work; fine detail is lost",
            steps_faster(gain, None),
            gain,
            f"1 / (1 − 0.75 · {compute:.2f}) = {gain:.2f}",
            kind="price",
        )
    if metrics.setting("freeze") is False and metrics.setting("weights") not in (None, "none"):
        gain = less(backward)
        yield Recommendation(
            "freeze",
            False,
            True,
            f"{percent(backward)} of a step is the backward pass, which a frozen backbone does "
            "without; only the head learns then",
            steps_faster(gain, None),
            gain,
            f"1 / (1 − {backward:.2f}) = {gain:.2f}",
            kind="price",
        )
    if side and side >= 96:
        smaller = int(side * math.sqrt(0.5) // 32 * 32) or 32
        gain = less(compute * (1 - (smaller / side) ** 2))
        yield Recommendation(
            "image_size",
            int(side),
            smaller,
            f"{percent(compute)} of a step is computing, which grows with the square of the side; "
            "smaller images show less",
            steps_faster(gain, None),
            gain,
            f"1 / (1 − {compute:.2f} · (1 − ({smaller}/{int(side)})²)) = {gain:.2f}",
            kind="price",
        )


def _fixed(metrics: ProfileMetrics) -> tuple[float, str]:
    """The share of a step that does not depend on the batch, and what it is made of."""
    optimizer = metrics.phase("optimizer")
    if not metrics.on_gpu:
        rest = metrics.phase("metrics", "unaccounted")
        return optimizer + rest, f"optimizer {percent(optimizer)}, bookkeeping {percent(rest)}"
    used = metrics.use("GPU")
    if used is None:
        return optimizer, f"optimizer {percent(optimizer)}"
    idle = max(0.0, 1 - used / 100 - metrics.waiting)
    return min(0.95, idle + optimizer), (
        f"the GPU idles {percent(idle)} without waiting for data, optimizer {percent(optimizer)}"
    )


def _room(metrics: ProfileMetrics, batch: int) -> int:
    """How many times larger a batch can be, a power of two; 1 where nothing larger fits."""
    used = metrics.use("GPU memory" if metrics.on_gpu else "memory", "p99")
    most = float(LARGEST) if used is None else min(LARGEST, FULL / max(used, 1.0))
    images, world = metrics.job["train_images"], metrics.job["world"] or 1
    if images:
        most = min(most, images / (world * batch * FEWEST_STEPS))
    return 1 if most < 2 else 2 ** int(math.log2(most))


def _learning_rate(metrics: ProfileMetrics, times: int) -> str:
    """The learning rate to go with a batch `times` larger.

    In proportion for SGD (Goyal et al. 2017), with the root for Adam and AdamW (Malladi et al.
    2022).
    """
    rate, optimizer = metrics.setting("learning_rate"), metrics.setting("optimizer")
    try:
        found = float(rate)
    except (TypeError, ValueError):
        return ""
    scaled = found * (times if optimizer == "sgd" else math.sqrt(times))
    return f"learning_rate={scaled:.2g}"


def loading_advice(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """More workers where a step waits for data.

    A step of length 1 waits a share w and computes 1 − w. Where steps wait, the loader is what
    limits them: K workers need K of such steps for one batch, so K′ bring the step down to
    max(1 − w, K / K′), and K / (1 − w) workers remove the wait; one to spare is advised. Without
    workers (K = 0) loading and computing take turns, a batch loads in w, and K′ give
    max(1 − w, w / K′).

    Processors bound it: where the network trains on them too and they are busy a share u of the
    time, the work in a step is u and no number of workers makes steps more than 1 / u times faster.
    """
    wait = metrics.waiting
    if wait < WAIT or in_memory(metrics):
        return
    workers, cores = _workers(metrics), cores_of_a_process(metrics)
    if workers is None:
        if cores is not None:
            yield _unknown_workers(metrics, wait, cores)
        return
    wanted = math.ceil(wait / (1 - wait) if workers == 0 else workers / (1 - wait))
    wanted = max(wanted, workers + 1)
    most = wanted if cores is None else cores
    busy = metrics.use("CPU")
    rules = _rules(metrics)
    if most > workers:
        to = min(wanted + 1, most)
        step = max(1 - wait, wait / to if workers == 0 else workers / to)
        formula = f"1 / max(1 − {wait:.2f}, {wait if workers == 0 else workers:.3g} / {to})"
        gain = 1 / step
        if not metrics.on_gpu and busy:
            gain = min(gain, 100 / busy)
            formula = f"min({formula}, 1 / {busy / 100:.2f})"
        if gain >= WORTHWHILE:
            yield Recommendation(
                "workers",
                workers,
                to,
                f"{percent(wait)} of a training step is waiting for data, which "
                f"{'nothing loads ahead' if workers == 0 else f'{workers} loader processes bring'}",
                steps_faster(gain, _training_share(metrics)),
                gain,
                f"{formula} = {gain:.2f}",
                rules=rules,
            )
            return
    if cores is not None and metrics.on_gpu:
        gain = 1 / (1 - wait)
        yield Recommendation(
            "instance_type",
            f"{cores} cores a process",
            f"{wanted} cores or more",
            f"{percent(wait)} of a training step is waiting for data though {workers} loader "
            f"processes already use the {cores} cores there are",
            f"{steps_faster(gain, _training_share(metrics))}, with workers={wanted}",
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


def _unknown_workers(metrics: ProfileMetrics, wait: float, cores: int) -> Recommendation:
    """One worker a core, where nothing tells how many there were."""
    gain = 1 / (1 - wait)
    return Recommendation(
        "workers",
        None,
        cores,
        f"{percent(wait)} of a training step is waiting for data; how many loader processes there "
        f"were is not recorded, and {cores} is one a core",
        steps_faster(gain, _training_share(metrics)),
        gain,
        f"1 / (1 − {wait:.2f}) = {gain:.2f}",
        rules=_rules(metrics),
    )


def too_many_workers(metrics: ProfileMetrics) -> Iterator[Recommendation]:
    """Fewer workers where the Dataloader rule counts more than cores and no step waits for them.

    Nothing is gained in time; each worker that goes frees the batches it held ready.
    """
    rule = fired(metrics.rules, "Dataloader")
    workers, cores = _workers(metrics), cores_of_a_process(metrics)
    wait = metrics.waiting
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


def in_memory(metrics: ProfileMetrics) -> bool:
    """Whether the images stay decoded in memory, so that no workers load them."""
    side, images = metrics.setting("image_size"), metrics.job["train_images"]
    if side is None or side > KEPT_SIDE:
        return False
    return images is None or images * side * side * 3 <= KEPT_BYTES


def _workers(metrics: ProfileMetrics) -> int | None:
    """Loader processes a rank has; berth's default is one a core, at most 8."""
    workers = metrics.setting("workers")
    if workers is not None:
        return int(workers)
    cores = cores_of_a_process(metrics)
    if cores is None or not metrics.recording.job.get("hyperparameters"):
        return None
    return min(8, cores)


def cores_of_a_process(metrics: ProfileMetrics) -> int | None:
    """Cores that each rank of a host has to itself; None where they are not known."""
    cores, world = metrics.job["cores"], metrics.job["world"] or 1
    if not cores:
        return None
    return max(1, int(cores / max(1, world / max(1, len(metrics.job["hosts"])))))


def _training_share(metrics: ProfileMetrics) -> float | None:
    duration = metrics.job["duration"]
    return metrics.training_seconds / duration if duration else None


def _rules(metrics: ProfileMetrics) -> tuple[str, ...]:
    names = ("CPUBottleneck", "IOBottleneck", "Dataloader", "LowGPUUtilization")
    return tuple(row["name"] for name in names if (row := fired(metrics.rules, name)))
