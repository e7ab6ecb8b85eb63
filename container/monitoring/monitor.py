"""The callback that runs the debugger's hook and watcher, the profiler and the curves.

Imported only if a job is debugged or profiled, and imports only what that job needs. Failures in
here are logged and never fail the job.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import torch
from torch import Tensor, nn

from container.cpus import available_cpus
from container.environment import Environment
from container.errors import BerthError
from container.files.json_files import replace_text, to_json
from container.hyperparameters import Hyperparameters
from container.monitoring.config import MonitoringConfig
from container.monitoring.debugger.rule_status import StatusFile
from container.monitoring.requested import profiler_file
from container.rules.requests import RuleRequest
from container.training.callbacks import Callback, Collection, Mode, StepMetrics
from container.training.curves import Curves
from container.training.distributed import World, gather_folder

if TYPE_CHECKING:
    from container.monitoring.debugger.hook import TensorHook
    from container.monitoring.debugger.settings import HookSettings
    from container.monitoring.debugger.watcher import Watcher
    from container.monitoring.profiler.recorder.operators import OperatorProfile
    from container.monitoring.profiler.recorder.sampler import Sampler
    from container.monitoring.profiler.recorder.timeline import Timeline
    from container.monitoring.profiler.settings import ProfilerSettings

T = TypeVar("T")
REPORT_SECONDS = 600.0
"""Seconds to wait for the report before the job ends without it."""


@dataclass
class Monitor(Callback):
    """Debugs and profiles one rank.

    Args:
        config: what to debug and profile.
        environment: the job's folders and hosts.
        hp: the hyperparameters.
        world: this rank and the number of ranks.
        say: where messages go.
    """

    config: MonitoringConfig
    environment: Environment
    hp: Hyperparameters
    world: World
    say: Callable[[str], None]
    _hook: "TensorHook | None" = field(default=None, init=False)
    _watcher: "Watcher | None" = field(default=None, init=False)
    _sampler: "Sampler | None" = field(default=None, init=False)
    _timeline: "Timeline | None" = field(default=None, init=False)
    _operators: "OperatorProfile | None" = field(default=None, init=False)
    _curves: Curves | None = field(default=None, init=False)
    _stop_written: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Start sampling the machine, before data are read and the network is built."""
        settings = self.config.profile
        if settings is None:
            return
        settings.root.mkdir(parents=True, exist_ok=True)
        if self.world.local_rank == 0:
            from container.monitoring.profiler.recorder.sampler import Sampler

            host = self.environment.current_host
            file = profiler_file(self.environment.base)
            self._sampler = Sampler(settings.root, host, settings.interval, self.say, file)
            self._sampler.start()
        if self.world.is_main:
            with self._loss_printed("no statuses"):
                StatusFile(self._rules / "profiler.json", self.config.profiler_rules).write()
            self.say(
                f"profiler: the machine's use every {settings.interval * 1000:.0f} ms, every "
                f"step's phases; {len(self.config.profiler_rules)} rules"
            )

    def setup(
        self, network: nn.Module, device: torch.device, steps: int, facts: Mapping[str, object]
    ) -> None:
        """Keep the arguments for the hook and the report."""
        self._network, self._device, self._steps, self._facts = network, device, steps, facts

    @property
    def can_stop(self) -> bool:  # type: ignore[override]
        """Whether any evaluated rule may stop training."""
        return any(each.stop for each in self.config.debug_rules)

    def on_train_start(self, first_step: int, first_eval_step: int) -> None:
        """Start the timeline, the hook and the curves at the given steps."""
        self._times = {"training_started": time.time()}
        if self.config.profile is not None:
            self._begin_profile(self.config.profile)
        if self.config.debug is not None:
            self._begin_debug(self.config.debug, first_step, first_eval_step)
        if self.world.is_main:
            curves = Curves(self._data / "curves.jsonl", self._steps)
            with self._loss_printed("no curves"):
                curves.begin(first_step)
                self._curves = curves

    @property
    def _data(self) -> Path:
        return self.environment.output_data_dir

    @property
    def _rules(self) -> Path:
        return self._data / "rules"

    def _begin_profile(self, settings: "ProfilerSettings") -> None:
        from container.monitoring.profiler.recorder.operators import OperatorProfile
        from container.monitoring.profiler.recorder.timeline import Timeline

        root, host = settings.root, self.environment.current_host
        self._timeline = Timeline(
            root,
            host,
            rank=self.world.rank,
            device=self._device,
            rotate_bytes=settings.rotate_bytes,
            rotate_seconds=settings.rotate_seconds,
            say=self.say,
        )
        if settings.steps:
            self._operators = OperatorProfile(root, host, self.world.rank, settings.steps, self.say)

    def _begin_debug(self, settings: "HookSettings", first_step: int, first_eval_step: int) -> None:
        from container.monitoring.debugger.hook import TensorHook

        self._hook = TensorHook(
            settings,
            self._network,
            rank=self.world.rank,
            world=self.world.size,
            first_step=first_step,
            first_eval_step=first_eval_step,
        )
        if self.world.is_main:
            names = ", ".join(each.name for each in self.config.debug_rules) or "none"
            self.say(f"debugger: tensors in {settings.path}; rules: {names}")
        if self.world.is_main and self.config.debug_rules:
            from container.monitoring.debugger.watcher import Watcher

            statuses = self._rules / "debug.json"
            self._watcher = Watcher(
                settings.path, statuses, self.config.debug_rules, self.config.own_rules, self.say
            )
            self._watcher.start()

    def batches(self, mode: Mode, batches: Iterable[T], first_step: int) -> Iterator[T]:
        """The batches, timed; torch.profiler starts and stops between them."""
        if self._timeline is None:
            yield from batches
            return
        if self._operators is not None and mode == "eval":
            self._operators.pause()
        timed = self._timeline.batches(mode, batches, first_step)
        for step, batch in enumerate(timed, first_step):
            if self._operators is not None and mode == "train":
                with self._timeline.phase("profiler"):
                    self._operators.step(step)
            yield batch

    def phase(self, name: str) -> AbstractContextManager[object]:
        """A timed phase."""
        return nullcontext() if self._timeline is None else self._timeline.phase(name)

    def on_before_forward(self, mode: Mode, network: nn.Module) -> bool:
        """Count the forward pass; returns whether its tensors are saved."""
        return self._hook is not None and self._hook.step(mode, network)

    def on_after_backward(self) -> None:
        """Save the gradients."""
        if self._hook is not None:
            self._hook.gradients()

    def record(self, collection: Collection, value: Tensor) -> None:
        """Save a tensor."""
        if self._hook is not None:
            self._hook.record(collection, value)

    def wants_gradient_norm(self, step: int) -> bool:
        """Whether the curves include this step."""
        return self._curves is not None and self._curves.wants(step)

    def on_step_end(self, metrics: StepMetrics) -> None:
        """Add the step to the curves."""
        if self._curves is not None:
            curves, self._curves = self._curves, None
            with self._loss_printed("no more curves"):
                curves.add(metrics)
                self._curves = curves

    def stop_reason(self) -> str | None:
        """The reason of a rule that stops training; also written to `rules/stopped`."""
        reason = None if self._watcher is None else self._watcher.stop_asked()
        if reason is not None and not self._stop_written:
            self._stop_written = True
            with self._loss_printed("rules/stopped was not written"):
                replace_text(self._rules / "stopped", reason + "\n")
        return reason

    def on_train_end(self) -> None:
        """Finish the saved tensors, so that rules see their end, and gather the hosts' profiles."""
        self._times["training_ended"] = time.time()
        if self._operators is not None:
            self._operators.close()
        if self._hook is not None and not self.world.is_main:
            self._hook.close()
        if self.config.debug is not None and self.config.debug.all_ranks:
            self.world.any(False, self._device)  # a barrier: rank 0 marks the end for all
        if self._hook is not None:
            self._hook.close()
        self._flush_curves()
        if self.config.profile is None:
            return
        if not self.world.is_main:
            self._close_profile()
        with self._loss_printed("not in the report: other hosts"):
            for problem in gather_folder(self.config.profile.root, self.world):
                self.say(f"profiler: not in the report: {problem}")

    def on_fit_end(self) -> None:
        """Evaluate the rules a last time and write the report."""
        self._take_new_rules()
        statuses: list[dict[str, Any]] = []
        if self._watcher is not None:
            statuses = self._watcher.finish()
        self._close_profile()
        if self.config.profile is not None:
            with self._loss_printed("no report"):
                self._write_facts(self.config.profile.root)
                _copy(self.config.profile.root, self._data / "profiler")
                statuses += self._report()
        for each in statuses:
            if each["RuleEvaluationStatus"] not in ("NoIssuesFound", "InProgress"):
                line = str(each.get("StatusDetails", "")).partition("\n")[0]
                self.say(f"rule {each['RuleConfigurationName']}: {line}")

    def teardown(self) -> None:
        """Release all resources."""
        if self._watcher is not None:
            self._watcher.kill()
        for part in (self._hook, self._operators):
            if part is not None:
                part.close()
        self._flush_curves()
        self._close_profile()

    def _flush_curves(self) -> None:
        if self._curves is not None:
            with self._loss_printed("no last curves"):
                self._curves.flush()

    @contextmanager
    def _loss_printed(self, loss: str) -> Iterator[None]:
        """Log an error of reading or writing and continue."""
        try:
            yield
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            self.say(f"profiler: {loss}: {error}")

    def _close_profile(self) -> None:
        if self._timeline is not None:
            self._timeline.close()
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None

    def _take_new_rules(self) -> None:
        """Read the profiler rules again: UpdateTrainingJob may have added some."""
        if self.config.profile is None:
            return
        try:
            self.config = self.config.with_new_rules(self.environment)
        except BerthError as error:
            self.say(f"profiler: rules that were added are not evaluated: {error}")

    def _write_facts(self, root: Path) -> None:
        facts = {
            "job": self.environment.job_name,
            "hosts": list(self.environment.hosts),
            "world": self.world.size,
            "cores": available_cpus(),
            "batch_size": self.hp.batch_size,
            "image_size": self.hp.image_size,
            "hyperparameters": self.hp.model_dump(mode="json"),
            "started": psutil.Process().create_time(),
            **self._times,
            "ended": time.time(),
            **self._facts,
        }
        replace_text(root / "job.json", to_json(facts, indent=1))

    def _report(self) -> list[dict[str, Any]]:
        """Write the report in a separate process, which frees its memory afterwards."""
        statuses = self._rules / "profiler.json"
        command = [
            *(sys.executable, "-X", "utf8", "-m", "container.monitoring.profiler.report"),
            *(str(self._data), "--into", str(self._data / "report")),
            *("--rules", _as_configurations(self.config.profiler_rules)),
            *("--statuses", str(statuses)),
        ]
        done = subprocess.run(
            command, timeout=REPORT_SECONDS, capture_output=True, encoding="utf-8", check=False
        )
        for line in done.stdout.splitlines():
            self.say(line)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            self.say(f"profiler: no report: {lines[-1]}")
            return []
        found: list[dict[str, Any]] = json.loads(statuses.read_text(encoding="utf-8"))
        return found


def _as_configurations(rules: Iterable[RuleRequest]) -> str:
    """Rules in the format of SageMaker's requests, with values as strings."""
    return json.dumps(
        [
            {
                "RuleConfigurationName": each.name,
                "RuleParameters": {"rule_to_invoke": each.rule, **each.texts},
            }
            for each in rules
        ]
    )


def _copy(source: Path, target: Path) -> None:
    if source != target:
        shutil.copytree(source, target, dirs_exist_ok=True)
