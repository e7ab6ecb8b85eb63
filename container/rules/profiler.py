"""The profiler's rules by name, with SageMaker's parameters and defaults, but not their code.

Source: the SageMaker developer guide's list of built-in profiler rules.
"""

from container.rules.requests import Parameter, RuleSpec

SCAN = {"scan_interval_us": Parameter("count", 60_000_000)}
"""Microseconds between two evaluations; a parameter of every rule."""


def _number(default: float) -> Parameter:
    return Parameter("number", default)


def _count(default: int) -> Parameter:
    return Parameter("count", default)


def _spec(name: str, watches: str, **parameters: Parameter) -> RuleSpec:
    return RuleSpec(name, watches, {**parameters, **SCAN}, runs_others=name == "ProfilerReport")


_SPECS = (
    _spec(
        "BatchSize",
        "a batch too small, or an instance too large, for the work",
        cpu_threshold_p95=_number(70),
        gpu_threshold_p95=_number(70),
        gpu_memory_threshold_p95=_number(70),
        patience=_count(1000),
        window=_count(500),
    ),
    _spec(
        "CPUBottleneck",
        "GPUs that wait for the CPU",
        threshold=_number(50),
        gpu_threshold=_number(10),
        cpu_threshold=_number(90),
        patience=_count(1000),
    ),
    _spec(
        "IOBottleneck",
        "GPUs that wait for data",
        threshold=_number(50),
        gpu_threshold=_number(10),
        io_threshold=_number(50),
        patience=_count(1000),
    ),
    _spec(
        "GPUMemoryIncrease",
        "GPU memory that keeps growing",
        increase=_number(5),
        patience=_count(1000),
        window=_count(10),
    ),
    _spec(
        "LoadBalancing",
        "GPUs with unequal load",
        threshold=_number(0.5),
        patience=_count(1000),
    ),
    _spec(
        "LowGPUUtilization",
        "GPUs with low or fluctuating utilization",
        threshold_p95=_number(70),
        threshold_p5=_number(10),
        window=_count(500),
        patience=_count(1000),
    ),
    _spec(
        "MaxInitializationTime",
        "a late first training step",
        threshold=_number(20),
    ),
    _spec(
        "StepOutlier",
        "steps that take much longer than the rest",
        stddev=_number(3),
        mode=Parameter("text", modes=("TRAIN", "EVAL", "PREDICT", "GLOBAL")),
        n_outliers=_count(10),
    ),
    _spec(
        "Dataloader",
        "too many or too few loader workers for the cores",
        min_threshold=_number(70),
        max_threshold=_number(200),
    ),
    _spec("OverallSystemUsage", "the utilization of every resource; never fires"),
    _spec("OverallFrameworkMetrics", "the time of each phase of a step; never fires"),
    _spec("ProfilerReport", "runs all other rules and writes the report"),
)

PROFILER_RULES = {spec.name: spec for spec in _SPECS}
"""All profiler rules, by name."""
