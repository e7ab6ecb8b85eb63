"""The `/opt/ml` tree of a training container: folders and configuration files."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from local.emulator.training.rules import KINDS

MOUNT = PurePosixPath("/opt/ml")
WRITABLE = ("model", "output", "output/data", "checkpoints")
"""Folders that the container writes to. They are writable for all users, as the image's user may be
any; only the home's owner can access the home around them."""
DEFAULT_PATHS = {
    "CheckpointConfig": "/opt/ml/checkpoints",
    "DebugHookConfig": "/opt/ml/output/tensors",
    "TensorBoardOutputConfig": "/opt/ml/output/tensorboard",
    "ProfilerConfig": "/opt/ml/output/profiler",
}
"""The default LocalPath of each configuration, which smdebug also uses."""
WARM_POOL_CACHE = PurePosixPath("sagemaker/warmpoolcache")
"""The folder below /opt/ml that the jobs of a warm pool share."""
FIRST_HOST = "algo-1"
"""The host whose files count where a job has only one of them, such as rule statuses."""
GROUP = "homogeneousCluster"
"""The default name of the instance group."""


class BadPath(Exception):
    """A LocalPath is not below /opt/ml; the message is one line that names the field."""


@dataclass(frozen=True)
class Host:
    """One host of a job: its name on the job's network, instance type and group."""

    name: str
    instance_type: str
    group: str


def hosts_of(request: dict[str, Any]) -> list[Host]:
    """The hosts of a CreateTrainingJob request, `algo-1` first."""
    resources = request.get("ResourceConfig", {})
    groups = resources.get("InstanceGroups") or [
        {
            "InstanceGroupName": GROUP,
            "InstanceType": resources.get("InstanceType", "ml.m5.large"),
            "InstanceCount": resources.get("InstanceCount", 1),
        }
    ]
    kinds = [
        (group["InstanceType"], group["InstanceGroupName"])
        for group in groups
        for _ in range(group["InstanceCount"])
    ]
    return [Host(f"algo-{n}", kind, group) for n, (kind, group) in enumerate(kinds, start=1)]


def local_path(request: dict[str, Any], field: str) -> PurePosixPath | None:
    """The LocalPath of `field` (a key of DEFAULT_PATHS), relative to /opt/ml; None without it.

    Raises:
        BadPath: it is not below /opt/ml, the only part of the container that is on this machine.
    """
    config = request.get(field)
    if config is None:
        return None
    if field == "ProfilerConfig":
        given = config.get("ProfilingParameters", {}).get("LocalPath")
    else:
        given = config.get("LocalPath")
    path = PurePosixPath(os.path.normpath(given or DEFAULT_PATHS[field]))
    if MOUNT not in path.parents:
        raise BadPath(f"{field}.LocalPath: found {given}, expected a folder below {MOUNT}")
    relative = path.relative_to(MOUNT)
    if relative.parts[0] in {"input", "model", "sagemaker"} or str(relative) in {
        "output",
        "output/data",
    }:
        raise BadPath(f"{field}.LocalPath: found {given}, which SageMaker uses for something else")
    return relative


@dataclass(frozen=True)
class OptMl:
    """A host's `/opt/ml`, a local folder.

    Attributes:
        base: the folder.
        seen_as: its path in the container: `/opt/ml`, or `base` for a process.
        interface: the host's network interface.
    """

    base: Path
    seen_as: PurePosixPath = MOUNT
    interface: str = "eth0"

    @property
    def data(self) -> Path:
        """The folder of the channels."""
        return self.base / "input" / "data"

    @property
    def own_rules(self) -> Path:
        """The folder of custom rules."""
        return self.base / "input" / "config" / "rules"

    @property
    def model(self) -> Path:
        """The folder for `model.tar.gz`."""
        return self.base / "model"

    @property
    def output(self) -> Path:
        """The folder of `failure` and of the files for `output.tar.gz`."""
        return self.base / "output"

    def make(self, request: dict[str, Any], host: Host, hosts: list[Host]) -> None:
        """Create missing folders and write the configuration."""
        config = self.base / "input" / "config"
        for folder in (config, self.data):
            folder.mkdir(parents=True, exist_ok=True)
        for name in WRITABLE:
            (self.base / name).mkdir(parents=True, exist_ok=True)
            (self.base / name).chmod(0o777)
        self.base.chmod(0o777)
        for name, value in self._files(request, host, hosts).items():
            (config / f"{name}.json").write_text(json.dumps(value, indent=2), encoding="utf-8")
        for field in DEFAULT_PATHS:
            path = local_path(request, field)
            if path is not None:
                (self.base / path).mkdir(parents=True, exist_ok=True)
                (self.base / path).chmod(0o777)

    def rewrite(self, request: dict[str, Any], host: Host, hosts: list[Host]) -> None:
        """Replace the profiler's configuration files atomically: a container may be reading.

        It does nothing if the folders do not exist yet.
        """
        config = self.base / "input" / "config"
        if not config.is_dir():
            return
        path = local_path(request, "ProfilerConfig")
        if path is not None:
            (self.base / path).mkdir(parents=True, exist_ok=True)
            (self.base / path).chmod(0o777)
        for name, value in self._files(request, host, hosts).items():
            if name in ("profilerconfig", "profilerruleconfigurations"):
                fresh = config / f".{name}.json.new"
                fresh.write_text(json.dumps(value, indent=2), encoding="utf-8")
                fresh.replace(config / f"{name}.json")

    def clear_outputs(self, kept: PurePosixPath | None) -> None:
        """Delete what the container wrote, except the folder `kept`, relative to the base."""
        for name in ("model", "output", "checkpoints"):
            _remove(self.base / name, None if kept is None else self.base / kept)

    def clear_input(self) -> None:
        """Delete the channels' files."""
        _remove(self.data)

    def clear(self) -> None:
        """Delete everything but the configuration."""
        for path in self.base.glob("*"):
            if path.name == "input":
                self.clear_input()
            else:
                _remove(path)

    def failure(self, length: int) -> str:
        """The first `length` characters of the container's failure file; "" without one."""
        path = self.output / "failure"
        if self.output.is_symlink() or path.is_symlink() or not path.is_file():
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(length)

    def _files(self, request: dict[str, Any], host: Host, hosts: list[Host]) -> dict[str, Any]:
        files: dict[str, Any] = {
            "hyperparameters": request.get("HyperParameters", {}),
            "inputdataconfig": {
                channel["ChannelName"]: _channel(channel, request)
                for channel in request.get("InputDataConfig", [])
            },
            "resourceconfig": self._resources(host, hosts),
        }
        for field in DEFAULT_PATHS:
            path = local_path(request, field)
            if path is None:
                continue
            files[field.lower()] = dict(request[field])
            if field != "ProfilerConfig":  # its LocalPath, if any, is one of its parameters
                files[field.lower()]["LocalPath"] = str(self.seen_as / path)
        # On AWS there are no such files, because rules are evaluated in other containers.
        present = [kind.configurations for kind in KINDS if request.get(kind.configurations)]
        files |= {field.lower(): request[field] for field in present}
        return files

    def _resources(self, host: Host, hosts: list[Host]) -> dict[str, Any]:
        groups = {peer.group: peer.instance_type for peer in hosts}
        return {
            "current_host": host.name,
            "current_instance_type": host.instance_type,
            "current_group_name": host.group,
            "hosts": sorted(peer.name for peer in hosts),
            "instance_groups": [
                {
                    "instance_group_name": group,
                    "instance_type": kind,
                    "hosts": sorted(peer.name for peer in hosts if peer.group == group),
                }
                for group, kind in groups.items()
            ],
            "network_interface_name": self.interface,
        }


def _channel(channel: dict[str, Any], request: dict[str, Any]) -> dict[str, str]:
    source = channel["DataSource"].get("S3DataSource", {})
    mode = channel.get("InputMode") or request["AlgorithmSpecification"]["TrainingInputMode"]
    config = {
        "TrainingInputMode": mode,
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    for field in ("ContentType", "CompressionType"):
        if field in channel:
            config[field] = channel[field]
    return config


def _remove(path: Path, kept: Path | None = None) -> None:
    """Delete a file or folder, without following links, except `kept` and its parents."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif kept is not None and path in kept.parents:
        for child in path.iterdir():
            _remove(child, kept)
    elif path.exists() and path != kept:
        shutil.rmtree(path)
