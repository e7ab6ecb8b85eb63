"""The containers of a deployment, and the routing of requests to them."""

import random
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from local.emulator.context import Context
from local.emulator.errors import ServiceError
from local.emulator.executors import ContainerSpec, ExecutorError
from local.emulator.hosting.instances import PORT, HostingTiming, Instance, InstanceFailed
from local.emulator.hosting.model_data import BadModelData, copy_tree, fetch
from local.emulator.hosting.target_models import TargetModels
from local.emulator.hosting.variants import Variant


class DeploymentFailed(Exception):
    """A fleet did not start; the message is the endpoint's FailureReason."""


class NoSuchVariant(Exception):
    """The requested variant does not exist."""


class Unavailable(Exception):
    """No container is healthy."""


@dataclass
class _Group:
    """A variant's containers."""

    variant: Variant
    instances: list[Instance] = field(default_factory=list)
    in_flight: int = 0

    @property
    def serving(self) -> list[Instance]:
        return [one for one in self.instances if one.serving]


class Fleet:
    """All containers of one deployment of an endpoint or a transform job.

    Args:
        context: the region's context.
        owner: prefix of the containers' names, such as `endpoint-<name>`.
        folder: a new folder for the fleet's files; `stop` removes it.
        log_group: the CloudWatch log group; streams are `<prefix>/i-<17 hex digits>`.
        variants: the variants to run.
        choices: the random generator for the choice of a variant by weight.
        timing: timeouts and intervals.
        on_change: called when a container becomes unhealthy or healthy again.
        stream_prefix: prefix of the log streams; None for the variant's name.
        subject: name of the endpoint or job in messages; None for the variant.
        extra: additional environment variables of every container.
    """

    def __init__(
        self,
        context: Context,
        *,
        owner: str,
        folder: Path,
        log_group: str,
        variants: list[Variant],
        choices: random.Random,
        timing: HostingTiming,
        on_change: Callable[[], None],
        stream_prefix: str | None = None,
        subject: str | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.on_change = on_change
        self._context, self._owner, self._log_group = context, owner, log_group
        self._choices, self._timing = choices, timing
        self._stream_prefix, self._extra = stream_prefix, extra or {}
        self._subject = subject
        self._groups = {one.name: _Group(one) for one in variants}
        self._idle = threading.Condition()
        self._stopped = False

    @property
    def variants(self) -> list[Variant]:
        """The variants with their current weights and counts."""
        with self._idle:
            return [group.variant for group in self._groups.values()]

    def serving(self, variant: str) -> int:
        """The number of a variant's healthy containers."""
        with self._idle:
            return len(self._groups[variant].serving)

    @property
    def in_flight(self) -> int:
        """The number of requests in flight."""
        with self._idle:
            return sum(group.in_flight for group in self._groups.values())

    @property
    def answers(self) -> bool:
        """Whether any container is healthy."""
        with self._idle:
            return any(group.serving for group in self._groups.values())

    def start(self) -> None:
        """Fetch the models, start every container, and wait until all pass the /ping health check.

        Raises:
            DeploymentFailed: one did not start; call `stop` to clean up the others.
        """
        for group in self._groups.values():
            self._prepare(group.variant)
        self._launch(
            [(group, number) for group in self._groups.values() for number in self._missing(group)]
        )

    def scale(self, variant: str, count: int) -> None:
        """Scale a variant to `count` containers; removed ones finish their requests first.

        Raises:
            DeploymentFailed: a new container did not start; all new ones are removed.
        """
        group = self._groups[variant]
        before = group.variant
        with self._idle:
            group.variant = replace(before, count=count)
            removed = group.instances[count:]
        try:
            self._launch([(group, number) for number in self._missing(group)])
        except DeploymentFailed:
            with self._idle:
                group.variant = before
                removed = group.instances[before.count :]
                group.instances = group.instances[: before.count]
            self._retire(removed)
            raise
        with self._idle:
            group.instances = group.instances[:count]
        self._retire(removed)

    def reweigh(self, weights: dict[str, float]) -> None:
        """Change variants' weights, from the next request on."""
        with self._idle:
            for name, weight in weights.items():
                group = self._groups[name]
                group.variant = replace(group.variant, weight=weight)

    @contextmanager
    def borrow(self, target: str | None = None) -> Iterator[tuple[Variant, Instance]]:
        """Borrow a container for a request: of the target variant, or of one chosen by weight.

        Raises:
            NoSuchVariant: the target variant does not exist.
            Unavailable: no container is healthy, or all weights are 0.
            ServiceError: a serverless variant has reached its MaxConcurrency.
        """
        with self._idle:
            group = self._choose(target)
            instance = min(group.serving, key=lambda one: one.in_flight)
            group.in_flight += 1
            instance.in_flight += 1
        try:
            yield group.variant, instance
        finally:
            with self._idle:
                group.in_flight -= 1
                instance.in_flight -= 1
                self._idle.notify_all()

    def stop(self, *, drain: bool = True) -> None:
        """Stop all containers, after the requests in flight if `drain`, and remove the folder."""
        with self._idle:
            self._stopped = True
            removed = [one for group in self._groups.values() for one in group.instances]
            for group in self._groups.values():
                group.instances = []
        self._retire(removed, drain=drain)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _choose(self, target: str | None) -> _Group:
        if target is not None:
            group = self._groups.get(target)
            if group is None:
                raise NoSuchVariant(target)
            if not group.serving:
                raise Unavailable(target)
        else:
            healthy = [group for group in self._groups.values() if group.serving]
            weights = [group.variant.weight for group in healthy]
            if not any(weights):
                raise Unavailable("")
            group = healthy[0] if len(healthy) == 1 else self._choices.choices(healthy, weights)[0]
        serverless = group.variant.serverless
        if serverless and group.in_flight >= serverless["MaxConcurrency"]:
            raise ServiceError(
                "ThrottlingException",
                f"Rate exceeded: variant {group.variant.name} works on its MaxConcurrency of "
                f"{serverless['MaxConcurrency']} requests already",
                429,
            )
        return group

    def _prepare(self, variant: Variant) -> None:
        """Check the image and fetch the model, once per variant."""
        try:
            self._context.executor.check_image(variant.image)
        except ExecutorError as error:
            raise DeploymentFailed(
                f"The image {variant.image} of {self._called(variant)} cannot be run: {error}"
            ) from None
        try:
            fetch(
                self._context.objects,
                variant.source,
                self.folder / variant.name / "model",
                limit_gb=variant.volume_gb,
            )
        except (BadModelData, OSError) as error:
            raise DeploymentFailed(
                f"Failed to get the model data of {self._called(variant)}: {error}"
            ) from None

    def _missing(self, group: _Group) -> range:
        return range(len(group.instances), group.variant.count)

    def _launch(self, wanted: list[tuple[_Group, int]]) -> None:
        """Start containers in parallel; if one fails, abandon the others.

        Raises:
            DeploymentFailed: the first failure.
        """
        if not wanted:
            return
        try:
            new = [(group.variant, self._add(group, number)) for group, number in wanted]
        except OSError as error:
            raise DeploymentFailed(f"A container could not be prepared: {error}") from None
        with ThreadPoolExecutor(len(new), thread_name_prefix="launch") as pool:
            futures = [pool.submit(self._start_one, *one) for one in new]
            for future in as_completed(futures):
                failure = future.exception()
                if failure is None:
                    continue
                for _, instance in new:
                    instance.abandon()
                raise failure

    def _add(self, group: _Group, number: int) -> Instance:
        variant = group.variant
        identity = f"i-{secrets.token_hex(9)[:17]}"
        base = self.folder / variant.name / identity
        copy_tree(self.folder / variant.name / "model", base / "model")
        models, environment = None, self._environment()
        if variant.multi_model and variant.source is not None:
            (base / "models").mkdir()
            models = TargetModels(
                self._context.objects, variant.source["uri"], base / "models", variant.volume_gb
            )
            environment["SAGEMAKER_MULTI_MODEL"] = "true"
        spec = ContainerSpec(
            name=f"{self._owner}-{variant.name}-{number}-{identity[2:8]}",
            image=variant.image,
            command=("serve",),
            base=base,
            environment=environment | variant.environment | self._extra,
            read_only=("model",) if models is None else ("model", "models"),
            hostname="model",
            isolated=variant.isolated,
            port=PORT,
            gpus=variant.gpus,
        )
        prefix = variant.name if self._stream_prefix is None else self._stream_prefix
        instance = Instance(
            self._context.executor,
            spec,
            self._context.logs.open(self._log_group, f"{prefix}/{identity}"),
            start_timeout=variant.startup,
            timing=self._timing,
            on_change=self.on_change,
            models=models,
        )
        with self._idle:
            if self._stopped:
                raise DeploymentFailed("the deployment was stopped")
            group.instances.append(instance)
        return instance

    def _start_one(self, variant: Variant, instance: Instance) -> None:
        try:
            instance.start()
        except InstanceFailed as error:
            tail = instance.log_tail()
            log = f"The end of its log: {tail}" if tail else "It printed nothing."
            raise DeploymentFailed(
                f"The primary container for {self._called(variant)} did not pass the ping health "
                f"check: {error}. {log}"
            ) from None

    def _called(self, variant: Variant) -> str:
        return self._subject or f"production variant {variant.name}"

    def _environment(self) -> dict[str, str]:
        return {
            "AWS_REGION": self._context.region,
            "SAGEMAKER_BIND_TO_PORT": str(PORT),
            "SAGEMAKER_SAFE_PORT_RANGE": "21000-21999",
        }

    def _retire(self, removed: list[Instance], *, drain: bool = True) -> None:
        """Stop containers; with `drain`, first wait for their requests in flight."""
        if not removed:
            return
        with self._idle:
            if drain:
                self._idle.wait_for(
                    lambda: not any(one.in_flight for one in removed), self._timing.drain
                )
        with ThreadPoolExecutor(len(removed), thread_name_prefix="retire") as pool:
            list(pool.map(Instance.stop, removed))
