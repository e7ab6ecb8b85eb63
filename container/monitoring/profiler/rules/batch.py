"""The rule that watches whether a batch fills the instance."""

import numpy as np

from container.monitoring.profiler.rules.findings import Findings, unjudged
from container.monitoring.profiler.rules.outcome import Outcome
from container.monitoring.profiler.rules.samples import (
    CPU,
    GPU,
    GPU_MEMORY,
    Floats,
    View,
    present,
    quartiles,
)
from container.rules.requests import RuleRequest

CPU_ONLY = "no GPU metrics in this job: the rule compares GPUs, their memory and processors"


def batch_size(view: View, request: RuleRequest) -> Outcome:
    """Fires where processors, a GPU and its memory all stay below their thresholds.

    Their p95 over the last `window` points is compared, once there are `patience` points and
    `window` of them; processors count by their mean. Violations are GPUs at looks. Without GPUs it
    judges nothing: on processors alone, more pictures at a time fill nothing further.
    """
    asked = request.parameters
    window = max(1, asked["window"])
    needed = max(asked["patience"], window)
    found = Findings()
    points = 0
    said: list[str] = []
    for node in view.nodes:
        times, (cores, gpus, memories) = view.together(node, CPU, GPU, GPU_MEMORY)
        if not cores.size or not gpus.size or gpus.shape != memories.shape:
            continue
        complete = ~np.isnan(cores).all(axis=1)
        times, cores = times[complete], np.nanmean(cores[complete], axis=1)
        gpus, memories = gpus[complete], memories[complete]
        points = max(points, len(times))
        names = view.points(node, GPU).names
        found.describe(node, "cpu", quartiles(cores))
        for at, name in enumerate(names):
            gpu, memory = gpus[:, at], memories[:, at]
            if np.isnan(gpu).all() or np.isnan(memory).all():
                continue
            for seen in view.looks(times, asked):
                last = slice(seen - window, seen)
                if seen >= needed and (
                    _p95(cores[last]) < asked["cpu_threshold_p95"]
                    and _p95(gpu[last]) < asked["gpu_threshold_p95"]
                    and _p95(memory[last]) < asked["gpu_memory_threshold_p95"]
                ):
                    found.fire(float(times[seen - 1]))
            found.describe(node, name, quartiles(present(gpu)))
            found.describe(node, f"{name}_memory", quartiles(present(memory)))
            if len(times) >= needed:
                said.append(
                    f"{name} on {node}: p95 of processors {_p95(cores[-window:]):.0f} %, "
                    f"GPU {_p95(gpu[-window:]):.0f} %, its memory {_p95(memory[-window:]):.0f} %"
                )
    missing = unjudged(request, points, needed, CPU_ONLY)
    if missing:
        return missing
    limits = (
        f"limits {asked['cpu_threshold_p95']:g}, {asked['gpu_threshold_p95']:g}, "
        f"{asked['gpu_memory_threshold_p95']:g} %"
    )
    reason = f"{said[0]} ({limits})" if said else "no GPU has enough points"
    return found.outcome(request, reason, points=points, needed=needed)


def _p95(values: Floats) -> float:
    """NaN, which is below no threshold, where nothing was measured."""
    there = present(values)
    return float(np.quantile(there, 0.95)) if there.size else np.nan
