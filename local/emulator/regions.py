"""SageMaker's regions: each has its own jobs, models, endpoints, logs and metrics.

Bucket names, users and roles are the account's, as on AWS.
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from local.emulator.api.app import SageMakerApp
from local.emulator.aws.application import AWSServices
from local.emulator.context import Context
from local.emulator.executors import Container, ContainerSpec, Executor
from local.emulator.home import Home
from local.emulator.hosting.runtime import RuntimeApp
from local.emulator.services import Services
from local.emulator.store import Store


@dataclass(frozen=True)
class Region:
    """A region's services, and the WSGI applications for SageMaker and its runtime."""

    services: Services
    sagemaker: SageMakerApp
    runtime: RuntimeApp


class Regions:
    """The regions in use, each created by its first request; thread-safe.

    Args:
        home: the first region's home; other regions are in `regions/<name>` below it.
        first: the name of the region that always exists.
        aws: the other AWS services.
        executor: runs the containers of all regions.
        files: the stack that closes their databases.
    """

    def __init__(
        self,
        home: Home,
        first: str,
        aws: AWSServices,
        executor: Executor,
        files: contextlib.ExitStack,
    ) -> None:
        self._home, self._first, self._aws = home, first, aws
        self._executor, self._files = executor, files
        self._lock = threading.Lock()
        self._made: dict[str, Region] = {}
        self.first = self.get(first)

    def get(self, name: str) -> Region:
        """Get or create a region."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def recover(self) -> None:
        """Load the regions of an earlier server and resume their jobs and endpoints."""
        for folder in sorted(self._folder().glob("*/")):
            self.get(folder.name)
        for services in self._services():
            services.recover()

    def shutdown(self) -> None:
        """Interrupt jobs and endpoints in all regions so that `recover` can resume them."""
        for services in self._services():
            services.shutdown()

    def _services(self) -> list[Services]:
        with self._lock:
            return [region.services for region in self._made.values()]

    def _folder(self) -> Any:
        return self._home.path / "regions"

    def _make(self, name: str) -> Region:
        home, executor = self._home, self._executor
        if name != self._first:
            home = Home(self._folder() / name)
            home.path.mkdir(parents=True, exist_ok=True)
            executor = Prefixed(executor, f"{name}-")
        store = Store(home.database)
        self._files.callback(store.close)
        logs = self._aws.logs.in_region(name)
        context = Context(home, name, store, self._aws.objects, logs, executor)
        services = Services.build(context)
        return Region(services, SageMakerApp(services), RuntimeApp(context, services.endpoints))


class Prefixed:
    """An executor that adds a region's name to the names of containers and networks."""

    def __init__(self, executor: Executor, prefix: str) -> None:
        self._executor, self._prefix = executor, prefix

    @property
    def name(self) -> str:
        """`docker` or `process`."""
        return self._executor.name

    @property
    def max_hosts(self) -> int:
        """The most hosts per job."""
        return self._executor.max_hosts

    def check_image(self, image: str) -> None:
        """Check that the image can be run."""
        self._executor.check_image(image)

    def create_network(self, name: str, *, isolated: bool) -> None:
        """Create a private network for the hosts of a job."""
        self._executor.create_network(self._prefix + name, isolated=isolated)

    def remove_network(self, name: str) -> None:
        """Remove a network; a missing one is not an error."""
        self._executor.remove_network(self._prefix + name)

    def start(self, spec: ContainerSpec, on_line: Callable[[str], None]) -> Container:
        """Start a container."""
        network = spec.network and self._prefix + spec.network
        named = replace(spec, name=self._prefix + spec.name, network=network)
        return self._executor.start(named, on_line)

    def reap(self) -> list[str]:
        """Do nothing: leftovers of an earlier server are found by home, not by region."""
        return []
