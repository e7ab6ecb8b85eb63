"""All evaluated rules: what they detect, what they found, when they fired, and what to do."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from container.monitoring.profiler.outcome import FIRED, short, starved
from container.monitoring.profiler.report.context import Link, ReportContext, anchor
from container.monitoring.profiler.units import count, plain

LONGEST = 6000
"""Letters of a rule's details that the page shows; its file has them all."""
STATUSES = {
    "NoIssuesFound": ("no issues", "quiet"),
    "InProgress": ("in progress", ""),
    "Error": ("error", "fired"),
    "Stopped": ("stopped", ""),
}
"""By SageMaker's status: its words on the page, and their class."""


def rules(report: ReportContext) -> dict[str, Any]:
    """The rules, those that fired most first; each unfolds."""
    rows = report.metrics.rules
    details = {outcome.request.name: outcome.details for outcome in report.metrics.outcomes}
    report.data["rules"] = rows
    return {
        "fired": sum(row["status"] == FIRED for row in rows),
        "kinds": {row["kind"] for row in rows},
        "rules": [_rule(report, row, details.get(row["name"], {})) for row in rows],
    }


def data_points(row: Mapping[str, Any]) -> str:
    """How much a rule looked at: never a bare zero where it wanted more."""
    if short(row):
        return f"not enough data: {count(row['datapoints'])} of {count(row['needed'])} points"
    if starved(row) and not row["datapoints"]:
        return "nothing to judge"
    return f"{count(row['datapoints'])} data points"


def findings(report: ReportContext, rule: str) -> list[dict[str, Any]]:
    """What a profiler rule found, each time it was evaluated, for the section on its question."""
    return [
        {
            "link": report.rule_links([row["name"]])[0],
            "reason": str(row["reason"]).partition("\n")[0] or "nothing to say",
            "points": data_points(row) if starved(row) else "",
        }
        for row in report.metrics.rules
        if row["rule"] == rule and row["kind"] == "profiler"
    ]


def _rule(
    report: ReportContext, row: Mapping[str, Any], details: Mapping[str, Any]
) -> dict[str, Any]:
    purpose, remedy = guide(row["rule"])
    status, status_class = _status(row)
    fired = row["status"] == FIRED
    reason, _, trace = str(row["reason"]).strip().partition("\n")
    moments = list(_moments(report, row)) if fired else []
    parameters = ", ".join(f"{name}={plain(each)}" for name, each in row["parameters"].items())
    return {
        "anchor": anchor("rule", row["kind"], row["name"]),
        "name": row["name"],
        "kind": row["kind"],
        "open": fired or row["status"] == "Error",
        "fired": fired,
        "status": status,
        "status_class": status_class,
        "times": _times(row["triggered"]),
        "points": data_points(row),
        "reason": reason,
        "trace": trace,
        "purpose": purpose,
        "remedy": remedy,
        "moments": moments,
        "more": max(0, row["triggered"] - len(moments)),
        "parameters": parameters,
        "details": _details(details) if details and row["kind"] == "profiler" else "",
    }


def _status(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["status"] == FIRED:
        return "issues found", "fired"
    if starved(row):
        return ("not enough data" if short(row) else "not judged"), "starved"
    return STATUSES.get(row["status"], (row["status"] or "unknown", ""))


def _times(triggered: int) -> str:
    return "fired once" if triggered == 1 else f"fired {count(triggered)} ×" if triggered else "–"


def _moments(report: ReportContext, row: Mapping[str, Any]) -> Iterator[Link]:
    """Links to where the rule's moments are marked: in time, or in steps; no target for neither."""
    for each in report.moments:
        if each["rule"] != row["name"] or each["kind"] != row["kind"]:
            continue
        step = each["step"]
        if each["kind"] == "debugger" and step is not None and len(report.metrics.recording.curves):
            yield Link(anchor("step", row["name"], step), f"step {count(step)}")
        elif each["time"] is not None:
            yield Link(each["anchor"], report.at(each["time"]))
        else:
            yield Link("", f"step {count(step)}")


def _details(details: Mapping[str, Any]) -> str:
    shown = json.dumps(details, indent=2, default=str, ensure_ascii=False)
    if len(shown) > LONGEST:
        shown = f"{shown[:LONGEST]}\n… the rest is in profiler-reports/"
    return shown


GUIDE: dict[str, tuple[str, str]] = {
    "BatchSize": (
        "Checks whether processors, GPU and GPU memory are all little used, which means that a "
        "step has too little to do.",
        "Raise batch_size (and learning_rate with it), or take a smaller instance.",
    ),
    "CPUBottleneck": (
        "Counts the samples in which a GPU is idle while the processors are at their limit.",
        "Give the loader more workers if there are cores left, do less on the processor "
        "(augment), or take an instance with more cores a GPU.",
    ),
    "IOBottleneck": (
        "Counts the samples in which a GPU is idle while processors wait for disks.",
        "Raise workers so that several files are read at once, use File mode or a faster volume, "
        "or store smaller images.",
    ),
    "GPUMemoryIncrease": (
        "Compares GPU memory in one window of samples with the window before.",
        "If it grows without end, something is kept from step to step; if it comes near the "
        "limit, lower batch_size or turn amp on.",
    ),
    "LoadBalancing": (
        "Compares how the GPUs' use is distributed, pair by pair.",
        "See whether a rank has other images to decode, fewer cores or a slower disk than the "
        "others; steps wait for the slowest.",
    ),
    "LowGPUUtilization": (
        "Looks at the 95th and the 5th percentile of GPU use: low means idle, far apart means in "
        "bursts.",
        "See what the GPU waits for: data (workers), small batches (batch_size) or checkpoints "
        "(checkpoint_minutes).",
    ),
    "MaxInitializationTime": (
        "Measures the time until the first training step.",
        "Look at downloading, decoding and compiling: FastFile mode, the weights channel and "
        "compile=false shorten them.",
    ),
    "StepOutlier": (
        "Counts the steps that took far longer than the others.",
        "See which phase grew in them: data (workers), checkpoints (checkpoint_minutes) or a "
        "machine shared with others.",
    ),
    "Dataloader": (
        "Compares the number of loader processes with the number of cores.",
        "Set workers near the number of cores; more only take memory and switch, fewer leave "
        "cores idle.",
    ),
    "OverallSystemUsage": (
        "Gathers the statistics of every resource; it never fires.",
        "Nothing: its figures are in the section on system usage.",
    ),
    "OverallFrameworkMetrics": (
        "Gathers where the steps' time goes; it never fires.",
        "Nothing: its figures are in the section on framework metrics.",
    ),
    "ProfilerReport": (
        "Evaluates the other rules and writes this report.",
        "Nothing: it says what the others found.",
    ),
    "VanishingGradient": (
        "Checks whether gradients are so small that weights no longer move.",
        "Start from trained weights, choose an architecture with normalisation, or raise "
        "learning_rate.",
    ),
    "ExplodingTensor": (
        "Looks for infinite and undefined values.",
        "Lower learning_rate, set gradient_clip, or turn half precision off (amp).",
    ),
    "DeadRelu": (
        "Counts the units whose ReLU gives zero for every input.",
        "Lower learning_rate or warm it up (warmup_epochs).",
    ),
    "PoorWeightInitialization": (
        "Compares the variance of the first layers' inputs and whether their weights move.",
        "Start from trained weights, or warm the learning rate up (warmup_epochs).",
    ),
    "SaturatedActivation": (
        "Counts the units of tanh and sigmoid layers that are stuck at their limits.",
        "Lower learning_rate or warm it up (warmup_epochs).",
    ),
    "WeightUpdateRatio": (
        "Compares every update with the size of the weights it changes.",
        "Lower learning_rate where updates are too large, raise it where they are too small.",
    ),
    "AllZero": (
        "Looks for tensors that hold nothing but zeros.",
        "Find the layer: its inputs are dead, or it does not take part.",
    ),
    "ClassImbalance": (
        "Counts the labels of every class and how often each is mistaken.",
        "Set class_weights=balanced, or gather more images of the rare classes.",
    ),
    "LossNotDecreasing": (
        "Checks whether the loss still falls.",
        "Lower learning_rate if it rises, raise it if it never fell, use schedule=cosine if it "
        "stands still late.",
    ),
    "Overfit": (
        "Compares validation loss with training loss.",
        "Augment more (augment, mixup), regularise (weight_decay, dropout, label_smoothing), or "
        "stop earlier (early_stopping_patience).",
    ),
    "Overtraining": (
        "Counts the epochs in which neither training nor validation gets better.",
        "Set early_stopping_patience or fewer epochs.",
    ),
    "SimilarAcrossRuns": (
        "Compares tensors with those of another run.",
        "Change seed, or look for what the two runs share by mistake.",
    ),
    "StalledTrainingRule": (
        "Measures the time in which nothing new was written.",
        "See in the log what the job waits for: data, another host, a full disk.",
    ),
    "TensorVariance": (
        "Compares the variance of tensors with the limits it was given.",
        "Lower learning_rate where variance is too high; start from other weights where it is "
        "too low.",
    ),
    "UnchangedTensor": (
        "Looks for tensors that stay the same from step to step.",
        "If they should learn, raise learning_rate or set freeze=false.",
    ),
    "CheckInputImages": (
        "Checks whether images are normalised: their mean should be near zero.",
        "See that all images have the colours and the depth that training expects.",
    ),
    "Confusion": (
        "Reads the confusion matrix: strong on its diagonal, weak off it.",
        "Look at the mistaken pairs in the evaluation; train longer or set class_weights=balanced.",
    ),
}
"""By rule: what it looks at, and what to do when it fires."""


def guide(rule: str) -> tuple[str, str]:
    """A rule's purpose and remedy; a user's own rules are not known here."""
    return GUIDE.get(rule, ("A rule of your own.", "See what its file says of it."))
