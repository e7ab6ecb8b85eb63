"""All metrics of one recording, each computed when it is first used."""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Any

import pandas as pd

from container.hyperparameters import Hyperparameters
from container.monitoring.profiler.metrics.job import job_metrics
from container.monitoring.profiler.metrics.learning import learning_metrics
from container.monitoring.profiler.metrics.steps import (
    breakdown,
    framework_metrics,
    share,
    step_metrics,
)
from container.monitoring.profiler.metrics.system import (
    Samples,
    measured,
    statistic,
    system_metrics,
)
from container.monitoring.profiler.outcome import RuleOutcome, rule_rows
from container.monitoring.profiler.reading import Recording


class ProfileMetrics:
    """The metrics that rules, verdict and report share.

    Args:
        recording: what was recorded.
        outcomes: what the profiler's rules made of it.
    """

    def __init__(self, recording: Recording, outcomes: Sequence[RuleOutcome] = ()) -> None:
        self.recording = recording
        self.outcomes = tuple(outcomes)
        self._breakdowns: dict[str, dict[str, Any]] = {}

    def with_outcomes(self, outcomes: Sequence[RuleOutcome]) -> "ProfileMetrics":
        """The same metrics, without computing them again, of a recording with these outcomes."""
        metrics = copy(self)
        metrics.outcomes = tuple(outcomes)
        metrics.__dict__.pop("rules", None)
        return metrics

    @cached_property
    def job(self) -> dict[str, Any]:
        """See `job_metrics`."""
        return job_metrics(self.recording)

    @cached_property
    def series(self) -> pd.DataFrame:
        """See `measured`."""
        return measured(self.recording.system)

    @cached_property
    def system(self) -> list[dict[str, Any]]:
        """See `system_metrics`."""
        return system_metrics(self.series)

    @cached_property
    def while_training(self) -> list[dict[str, Any]]:
        """The same of the samples taken during the training loop; of all where it is not known."""
        first, last = self.job["training_started"], self.job["training_ended"]
        if first is None or last is None:
            return self.system
        inside = self.series[self.series["time"].between(first, last)]
        return system_metrics(inside) if len(inside) else self.system

    @cached_property
    def samples(self) -> Samples:
        """The system metrics as rules read them: by node and metric, core by core."""
        return Samples(self.recording)

    def breakdown(self, mode: str) -> dict[str, Any]:
        """See `steps.breakdown`; worked out once a mode."""
        if mode not in self._breakdowns:
            self._breakdowns[mode] = breakdown(self.recording.events, mode)
        return self._breakdowns[mode]

    @cached_property
    def framework(self) -> dict[str, Any]:
        """See `framework_metrics`."""
        loop = self.job["training_loop"]
        return framework_metrics(
            self.recording.events,
            {mode: self.breakdown(mode) for mode in ("train", "eval")},
            self.recording.on_device,
            self.recording.operators,
            loop["seconds"] if loop else None,
            self.job["duration"],
        )

    @cached_property
    def steps(self) -> dict[str, Any] | None:
        """See `step_metrics`."""
        return step_metrics(self.recording.events)

    @cached_property
    def learning(self) -> dict[str, Any]:
        """See `learning_metrics`."""
        return learning_metrics(self.recording.curves, self.recording.epochs)

    @cached_property
    def rules(self) -> list[dict[str, Any]]:
        """See `rule_rows`."""
        return rule_rows(self.outcomes, self.recording.debug_rules)

    @property
    def on_gpu(self) -> bool:
        """Whether the job trained on a GPU: its facts say so, or one was measured at work."""
        device = self.job["device"]
        if device is not None:
            return not str(device).lower().startswith("cpu")
        return (self.use("GPU", "max") or 0.0) > 0

    def use(self, metric: str, which: str = "mean") -> float | None:
        """A statistic of a metric in percent, while training; see `statistic`."""
        return statistic(self.while_training, metric, which)

    @property
    def waiting(self) -> float:
        """The share of a training step that nothing computes because data is awaited.

        On a GPU work goes on while the loop waits for the next batch, so the wait is at most the
        share of time the GPU was measured idle.
        """
        wait, used = self.phase("data"), self.use("GPU")
        if not self.on_gpu or used is None:
            return wait
        return min(wait, max(0.0, 1 - used / 100))

    def phase(self, *names: str) -> float:
        """The share of a training step these phases take."""
        return share(self.framework, *names)

    def seconds_of(self, phase: str) -> float:
        """Seconds a rank spent in a phase, within training steps and outside of any."""
        rows = [*self.framework["phases"], *self.framework["outside"]]
        return float(sum(row["seconds"] for row in rows if row["phase"] == phase))

    @property
    def training_seconds(self) -> float:
        """Seconds of all training steps of a rank."""
        rows = self.framework["modes"]
        return float(sum(row["seconds"] for row in rows if row["mode"] == "train"))

    @property
    def evaluation_seconds(self) -> float:
        """Seconds of a rank's validation: its steps, or the phase where those were not recorded."""
        rows = self.framework["modes"]
        steps = sum(row["seconds"] for row in rows if row["mode"] == "eval")
        return float(steps or self.seconds_of("evaluation"))

    def setting(self, name: str) -> Any:
        """A hyperparameter of the job, its default where it was not given; None if none is known.

        What the loader really used comes before what was requested.
        """
        given = self.recording.job.get("hyperparameters")
        if name in ("workers", "batch_size", "image_size") and self.job[name] is not None:
            return int(self.job[name])
        if not isinstance(given, dict) or not given:
            return None
        if name in given:
            return given[name]
        field = Hyperparameters.model_fields.get(name)
        return field.default if field is not None else None
