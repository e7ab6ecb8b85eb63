"""The inputs and outputs of a job: SageMaker's `/opt/ml` tree, as typed paths.

The layout is SageMaker's training-container contract. `SAGEMAKER_BASE_DIR` moves the whole tree, so
the same job runs without Docker and without root.
"""

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.errors import DataError
from container.files.json_files import read_object
from container.hyperparameters import Hyperparameters

DEFAULT_BASE = "/opt/ml"

ALONE: dict[str, Any] = {"current_host": "algo-1", "hosts": ["algo-1"]}
"""`resourceconfig.json` of a job on one host."""

CONFIGURATION = {
    "hyperparameters.json": 'a JSON object of strings such as {"epochs": "10"}, or {}',
    "inputdataconfig.json": 'a JSON object of channels such as {"train": {}}',
    "resourceconfig.json": f"a JSON object such as {json.dumps(ALONE)}",
}
"""The files that SageMaker writes into `input/config` of every job."""


def base_folder() -> Path:
    """The root of the tree: `SAGEMAKER_BASE_DIR`, or `/opt/ml`."""
    return Path(os.environ.get("SAGEMAKER_BASE_DIR", DEFAULT_BASE))


def in_tree(base: Path, path: str) -> Path:
    """A path as SageMaker writes it, under `/opt/ml` or not, in the tree at `base`."""
    given = Path(path)
    with suppress(RuntimeError):  # a user without a home folder, as many of containers
        given = given.expanduser()
    if given.is_relative_to(DEFAULT_BASE):
        return base / given.relative_to(DEFAULT_BASE)
    return given


def write_failure(base: Path, reason: str) -> None:
    """Write `reason` to `output/failure`, unless another rank has.

    SageMaker shows its first 1024 characters, so its first line is the message.
    """
    path = base / "output" / "failure"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(reason)
    except FileExistsError:
        return


def first_failure(base: Path) -> str:
    """The first line of `output/failure`, empty when there is none."""
    path = base / "output" / "failure"
    return path.read_text(encoding="utf-8").partition("\n")[0] if path.exists() else ""


@dataclass(frozen=True)
class Environment:
    """One host's view of a training job.

    Attributes:
        base: root of the tree, `/opt/ml` in a container.
        hosts: every host of the job, sorted; rank 0 runs on the first.
        current_host: this host's name among `hosts`.
        network_interface: the interface that joins the hosts, as SageMaker names it.
        job_name: `TRAINING_JOB_NAME`, or "local" outside SageMaker.
    """

    base: Path
    hosts: tuple[str, ...]
    current_host: str
    network_interface: str
    job_name: str

    @classmethod
    def read(cls) -> "Environment":
        """Read the tree named by `SAGEMAKER_BASE_DIR`.

        Raises:
            DataError: `resourceconfig.json` is present but is not what SageMaker writes.
        """
        base = base_folder()
        path = base / "input" / "config" / "resourceconfig.json"
        resources = read_object(path) if path.exists() else dict(ALONE)
        host, hosts = resources.get("current_host"), resources.get("hosts")
        if not isinstance(hosts, list) or not hosts or not all(map(_is_name, hosts)):
            raise DataError(
                f"{path}: found hosts {_shown(hosts)}, expected a list of names such as "
                f"{json.dumps(ALONE['hosts'])}"
            )
        if host not in hosts:
            raise DataError(
                f"{path}: current_host is {_shown(host)}, expected one of hosts {sorted(hosts)}"
            )
        interface = resources.get("network_interface_name", "eth0")
        if not _is_name(interface):
            raise DataError(
                f"{path}: found network_interface_name {_shown(interface)}, expected a name such "
                "as 'eth0'"
            )
        return cls(
            base=base,
            hosts=tuple(sorted(hosts)),
            current_host=str(host),
            network_interface=interface,
            job_name=os.environ.get("TRAINING_JOB_NAME") or "local",
        )

    @classmethod
    def read_whole(cls) -> "Environment":
        """`read`, of a tree that must hold the three files that SageMaker always writes.

        Raises:
            DataError: one of them is missing or is not what SageMaker writes, or a channel that it
                declares is not there.
        """
        config = base_folder() / "input" / "config"
        for name, expected in CONFIGURATION.items():
            if not (config / name).exists():
                raise DataError(f"{config / name}: found no such file, expected {expected}")
        environment = cls.read()
        _ = environment.hyperparameters, environment.channels
        return environment

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """`input/config/hyperparameters.json` as it stands: usually a map of strings."""
        path = self.base / "input" / "config" / "hyperparameters.json"
        return read_object(path) if path.exists() else {}

    @property
    def channels(self) -> dict[str, Path]:
        """The input channels by name, without those that hold no images."""
        others = ("weights", "rules", "features")
        return {name: path for name, path in self._channels().items() if name not in others}

    @property
    def streamed(self) -> frozenset[Path]:
        """The folders of the channels whose files are streamed from S3 when they are read."""
        path = self.base / "input" / "config" / "inputdataconfig.json"
        declared = read_object(path) if path.exists() else {}
        return frozenset(
            folder
            for name, folder in self.channels.items()
            if declared.get(name, {}).get("TrainingInputMode") == "FastFile"
        )

    @property
    def weights_channel(self) -> Path | None:
        """The channel that brings pretrained weights, if the job has one."""
        return self._channels().get("weights")

    @property
    def rules_channel(self) -> Path | None:
        """The channel that brings a file of the user's own rules, if the job has one."""
        return self._channels().get("rules")

    @property
    def features_channel(self) -> Path | None:
        """The channel that brings features an earlier job computed, if the job has one."""
        return self._channels().get("features")

    @property
    def warm_pool(self) -> Path | None:
        """The folder SageMaker keeps from one job of a warm pool to the next, if there is one."""
        pool = self.base / "sagemaker" / "warmpoolcache"
        return pool if pool.is_dir() and os.access(pool, os.W_OK) else None

    def _channels(self) -> dict[str, Path]:
        data = self.base / "input" / "data"
        path = self.base / "input" / "config" / "inputdataconfig.json"
        declared = read_object(path) if path.exists() else {}
        for name, options in declared.items():
            if "/" in name or name in {"", ".", ".."}:
                raise DataError(f"{path}: found channel {name!r}, expected a folder's name")
            if not isinstance(options, dict):
                raise DataError(
                    f"{path}: channel {name!r} is {_shown(options)}, expected an object such as "
                    '{"TrainingInputMode": "File"} or {}'
                )
        modes = {name: options.get("TrainingInputMode") for name, options in declared.items()}
        sharding = {name: options.get("S3DistributionType") for name, options in declared.items()}
        names = sorted(declared)
        if not path.exists():
            names = sorted(p.name for p in data.iterdir() if p.is_dir()) if data.is_dir() else []
        for name in names:
            if modes.get(name) not in (None, "File", "FastFile"):
                raise DataError(
                    f"channel {name!r}: found input mode {modes[name]}, expected File or FastFile"
                )
            if len(self.hosts) > 1 and sharding.get(name) == "ShardedByS3Key":
                raise DataError(
                    f"channel {name!r}: found distribution ShardedByS3Key, expected "
                    "FullyReplicated: the ranks share the images out among themselves"
                )
            if not (data / name).is_dir():
                raise DataError(f"channel {name!r} is declared but {data / name} does not exist")
        return {name: data / name for name in names}

    @property
    def model_dir(self) -> Path:
        """What becomes `model.tar.gz`."""
        return self.base / "model"

    @property
    def output_data_dir(self) -> Path:
        """What becomes `output.tar.gz`."""
        return self.base / "output" / "data"

    @property
    def checkpoint_dir(self) -> Path:
        """Synchronised with S3 while the job runs, and restored when it restarts."""
        return self.base / "checkpoints"

    @property
    def host_rank(self) -> int:
        """This host's index among `hosts`."""
        return self.hosts.index(self.current_host)

    def clear_failure(self) -> None:
        """Delete the failure of an earlier run in the same tree."""
        (self.base / "output" / "failure").unlink(missing_ok=True)

    def join_network(self) -> None:
        """Set gloo's and NCCL's network interface to the one that joins the hosts, if it exists."""
        present = {name for _, name in socket.if_nameindex()}
        if self.network_interface in present:
            for library in ("GLOO", "NCCL"):
                os.environ.setdefault(f"{library}_SOCKET_IFNAME", self.network_interface)


def read_hyperparameters(environment: Environment) -> Hyperparameters:
    """The job's hyperparameters; a `rules` channel stands for `rules_file`.

    Raises:
        HyperparameterError: one of them is wrong.
        DataError: it does not say which of the channel's files holds the rules.
    """
    given = environment.hyperparameters
    channel = environment.rules_channel
    if channel is not None and not {"rules_file", "rules-file"} & given.keys():
        files = sorted(path.name for path in channel.glob("*.py"))
        if len(files) != 1:
            raise DataError(
                f"channel 'rules': expected one Python file, found {files or 'none'}; "
                "hyperparameter rules_file names it"
            )
        given = {**given, "rules_file": files[0]}
    return Hyperparameters.parse(given)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _shown(value: object) -> str:
    """A configuration value for a message: shortened, `null` where it is missing."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
