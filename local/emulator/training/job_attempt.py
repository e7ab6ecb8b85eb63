"""A training job's local resources: `/opt/ml` trees, containers, logs, S3 mirrors, metrics."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from local.emulator.context import Context
from local.emulator.executors import ContainerSpec, saved_output
from local.emulator.executors.line_buffer import LineBuffer
from local.emulator.ports import LogStream
from local.emulator.store import Kind
from local.emulator.training.archive import walk
from local.emulator.training.channels import lay_out
from local.emulator.training.checkpoints import Mirror, Mirrors
from local.emulator.training.cluster import Cluster, HostEnded, HostLost
from local.emulator.training.describe import REASON_LENGTH
from local.emulator.training.metrics import MetricWatch
from local.emulator.training.opt_ml import (
    MOUNT,
    WARM_POOL_CACHE,
    OptMl,
    hosts_of,
    local_path,
)
from local.emulator.training.own_rules import fetch_own_rules
from local.log_groups import TRAINING_JOBS
from local.s3_location import Location

SYNC_SECONDS = 1.0
"""Seconds between two syncs to S3. Metrics are published at the same interval, and a file is
touched that shows a later server how long this one was running."""
FAILURE_LENGTH = 1024
"""Characters of `output/failure` in the FailureReason (developer guide)."""
UNSAVED = PurePosixPath("checkpoints")
"""The folder of checkpoints without a CheckpointConfig, which are not synced to S3."""
_LIVE_OUTPUT = {
    "DebugHookConfig": "debug-output",
    "TensorBoardOutputConfig": "tensorboard-output",
    "ProfilerConfig": "profiler-output",
}
"""AWS's prefixes below `<S3OutputPath>/<job>/` for live output."""
_UNFINISHED = (".tmp", ".sagemaker-ignore")
"""Suffixes of smdebug's incomplete files, and of a folder that SageMaker ignores."""

_log = logging.getLogger(__name__)


class JobAttempt:
    """The hosts of a job, which may be started several times with the same trees.

    Args:
        context: the region.
        request: the CreateTrainingJob request.
        arn: the job's ARN.
        cpus: cores per host; None for all.

    Attributes:
        trees: each host with its `/opt/ml`.
        watch: finds metrics in the log lines.
    """

    def __init__(
        self, context: Context, request: dict[str, Any], arn: str, cpus: int | None
    ) -> None:
        self._context, self._request, self._arn, self._cpus = context, request, arn, cpus
        self._name: str = request["TrainingJobName"]
        self._algorithm: dict[str, Any] = request["AlgorithmSpecification"]
        self._folder = context.home.job(Kind.TRAINING_JOB, self._name)
        self.trees = [(host, self._tree(host.name)) for host in hosts_of(request)]
        self._checkpoint_path = local_path(request, "CheckpointConfig") or UNSAVED
        self._checkpoints = [mirror for _, tree in self.trees for mirror in self._saved(tree)]
        live = [mirror for _, tree in self.trees for mirror in self._live(tree, _LIVE_OUTPUT)]
        self._mirrors = Mirrors([*self._checkpoints, *live])
        self._pulse = self._folder / "pulse"
        self._streams: list[LogStream] = []
        self._cluster: Cluster | None = None
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None
        self.watch = MetricWatch(
            self._algorithm.get("MetricDefinitions", []), self._folder / "metrics.jsonl", self._note
        )

    @property
    def size(self) -> int:
        """The number of hosts."""
        return len(self.trees)

    def lay_out(self, *, restore: bool) -> None:
        """Write the configuration and channels and, with `restore`, the checkpoints from S3.

        Raises:
            BadChannel: a channel's data or a rule's file is missing or invalid.
            OSError: the disk is full, or a file cannot be read.
        """
        hosts = [host for host, _ in self.trees]
        for host, tree in self.trees:
            tree.clear_input()
            tree.make(self._request, host, hosts)
            fetch_own_rules(self._context.objects, self._request, tree.own_rules)
            for channel in self._request.get("InputDataConfig", []):
                folder = tree.data / channel["ChannelName"]
                lay_out(self._context.objects, channel, host, hosts, folder)
        if restore:
            for mirror in self._checkpoints:
                mirror.restore()

    def start(self, report: Callable[[HostEnded | HostLost], None]) -> None:
        """Start the containers; call `end` afterwards, also after an error.

        Raises:
            ImageMissing, ExecutorError: a container could not be started.
        """
        started = int(time.time())
        self._streams = [
            self._context.logs.open(TRAINING_JOBS, f"{self._name}/{host.name}-{started}")
            for host, _ in self.trees
        ]
        network = self._name if self.size > 1 else None
        specs = [self._spec(host.name, tree, network) for host, tree in self.trees]
        self._cluster = Cluster(self._context.executor, specs, network, self._read, report)
        self._pulse.touch()
        self._ended = threading.Event()
        self._ticker = threading.Thread(
            target=self._tick, args=(self._ended,), name=f"{self._name} sync", daemon=True
        )
        self._ticker.start()
        self._cluster.start()

    def reconfigure(self, request: dict[str, Any]) -> None:
        """Write the configuration of a changed request for the containers, which may be running.

        Raises:
            OSError: the disk is full.
        """
        was, self._request = self._request, request
        if "ProfilerConfig" not in was and "ProfilerConfig" in request:
            new = {"ProfilerConfig": _LIVE_OUTPUT["ProfilerConfig"]}
            self._mirrors.add([one for _, tree in self.trees for one in self._live(tree, new)])
        hosts = [host for host, _ in self.trees]
        for host, tree in self.trees:
            tree.rewrite(request, host, hosts)
        if self._cluster is not None and "ProfilerConfig" in request:
            self._note(
                "UpdateTrainingJob: input/config/profilerconfig.json has changed. A running "
                "profiler applies its interval and DisableProfiler; one that was not configured "
                "when the container started begins with the next container"
            )

    def catch_up(self) -> None:
        """Process the output that the hosts wrote after an earlier server was killed."""
        for host, tree in self.trees:
            path = saved_output(tree.base)
            if not path.exists():
                continue
            printed: list[str] = []
            lines = LineBuffer(printed.append)
            lines.feed(path.read_bytes())
            lines.close()
            prefix = f"{self._name}/{host.name}-"
            logged = Counter(self._context.logs.tail(TRAINING_JOBS, prefix, len(printed)))
            stream = self._context.logs.open(TRAINING_JOBS, f"{prefix}{int(path.stat().st_mtime)}")
            for line in printed:
                if logged[line] > 0:
                    logged[line] -= 1
                else:
                    stream.write(line)
                    self.watch.read(line)
            stream.close()
            path.unlink()
        self._publish()

    def owns(self, event: HostEnded | HostLost) -> bool:
        """Whether an event is about the containers that were started last."""
        return event.cluster is self._cluster

    def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL after `grace` seconds."""
        if self._cluster is not None:
            self._cluster.stop(grace)

    def note_unseen(self) -> None:
        """Log the metrics that were never found in the job's log."""
        if unseen := self.watch.unseen():
            self._note(
                "no line of this log matched the regular expression of "
                + ", ".join(f"{name} ({pattern})" for name, pattern in unseen.items())
            )

    def end(self) -> None:
        """Remove the containers, flush S3 and CloudWatch; errors are only logged."""
        if self._cluster is not None:
            self._cluster.remove()
        self._cluster = None
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        self._ticker = None
        self._clear(OptMl.clear_input)
        for finish in (self.sync, self._publish, *(stream.close for stream in self._streams)):
            try:
                finish()
            except OSError as error:
                _log.warning("training job %s: some output is not stored: %s", self._name, error)
            except Exception:
                _log.exception("training job %s: some output is not stored", self._name)
        self._pulse.unlink(missing_ok=True)
        self._streams = []

    def sync(self) -> None:
        """Upload what has changed, after the containers have ended.

        Raises:
            OSError: the bucket does not exist, or the disk is full.
        """
        self._mirrors.finish()

    def close(self) -> None:
        """Close the metrics file."""
        self.watch.close()

    def clear(self) -> None:
        """Delete everything but the configuration and the metrics; errors are only logged."""
        self._clear(OptMl.clear)

    def clear_outputs(self, *, keep_checkpoints: bool) -> None:
        """Delete the outputs, as on a new instance, with or without the checkpoints."""
        kept = self._checkpoint_path if keep_checkpoints else None
        self._clear(lambda tree: tree.clear_outputs(kept))

    def last_checkpoint(self) -> datetime | None:
        """The time of the last checkpoint; None if there is none."""
        return self._newest(self._checkpoint_path)

    def last_seen(self) -> datetime | None:
        """When a killed server was last running; None if it did not start the hosts."""
        if not self._pulse.exists():
            return None
        return datetime.fromtimestamp(self._pulse.stat().st_mtime, UTC)

    def failure(self, rank: int, status: int) -> str:
        """The FailureReason for a host that ended with a status other than 0."""
        host, tree = self.trees[rank]
        text = tree.failure(FAILURE_LENGTH).strip()
        if not text:
            last = self._context.logs.tail(TRAINING_JOBS, f"{self._name}/{host.name}-", 1)
            text = f"no output/failure was written; the log ends with: {last[-1]}" if last else ""
        code = f", exit code: {status}"
        if status == 137 and not tree.failure(1):
            code += " (killed, probably because the machine ran out of memory)"
        return f"AlgorithmError: {text}"[: REASON_LENGTH - len(code)] + code

    def _clear(self, remove: Callable[[OptMl], None]) -> None:
        for _, tree in self.trees:
            try:
                remove(tree)
            except OSError as error:  # files of a container, if the engine could not change owners
                _log.warning("training job %s: some files remain: %s", self._name, error)

    def _newest(self, relative: str | PurePosixPath) -> datetime | None:
        times = [
            path.lstat().st_mtime for _, tree in self.trees for path in walk(tree.base / relative)
        ]
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def _tree(self, host: str) -> OptMl:
        base = self._folder / host
        if self._context.executor.name == "process":
            return OptMl(base, seen_as=PurePosixPath(base), interface="lo")
        return OptMl(base, seen_as=MOUNT)

    def _saved(self, tree: OptMl) -> list[Mirror]:
        if "CheckpointConfig" not in self._request:
            return []
        place = Location.parse(self._request["CheckpointConfig"]["S3Uri"])
        return [Mirror(self._context.objects, tree.base / self._checkpoint_path, place, tree.base)]

    def _live(self, tree: OptMl, fields: dict[str, str]) -> list[Mirror]:
        mirrors = []
        for field, folder in fields.items():
            path = local_path(self._request, field)
            uri = self._request.get(field, {}).get("S3OutputPath")
            if path is not None and uri:
                place = Location.parse(uri) / self._name / folder
                objects, live = self._context.objects, tree.base / path
                mirrors.append(Mirror(objects, live, place, tree.base, _UNFINISHED))
        return mirrors

    def _spec(self, host: str, tree: OptMl, network: str | None) -> ContainerSpec:
        entrypoint = self._algorithm.get("ContainerEntrypoint")
        region = self._context.region
        return ContainerSpec(
            name=f"{self._name}-{host}",
            image=self._algorithm["TrainingImage"],
            command=tuple(
                self._algorithm.get("ContainerArguments", [] if entrypoint else ["train"])
            ),
            entrypoint=tuple(entrypoint) if entrypoint else None,
            base=tree.base,
            environment={
                "AWS_REGION": region,
                "AWS_DEFAULT_REGION": region,
                **self._request.get("Environment", {}),
                "TRAINING_JOB_NAME": self._name,
                "TRAINING_JOB_ARN": self._arn,
            },
            read_only=("input/data",),
            shared={str(WARM_POOL_CACHE): self._context.home.warm_pool_cache},
            hostname=host,
            network=network,
            isolated=self._request.get("EnableNetworkIsolation", False),
            cpus=self._cpus,
            gpus=True,
        )

    def _read(self, rank: int, line: str) -> None:
        try:
            self._streams[rank].write(line)
        finally:
            self.watch.read(line)

    def _note(self, line: str) -> None:
        """Write a line to the job's own log, for the user."""
        _log.warning("training job %s: %s", self._name, line)
        if self._streams:
            self._streams[0].write(f"berth: {line}")

    def _tick(self, ended: threading.Event) -> None:
        while not ended.wait(SYNC_SECONDS):
            try:
                self._pulse.touch()
                self._mirrors.tick()
                self._publish()
            except Exception:
                _log.exception("training job %s: syncing its output failed", self._name)

    def _publish(self) -> None:
        new = [metric for metric in self.watch.unpublished() if math.isfinite(metric.value)]
        if not new:
            return
        points = [(metric.name, metric.value, metric.timestamp) for metric in new]
        self._context.logs.put_metrics(TRAINING_JOBS, {"TrainingJobName": self._name}, points)
