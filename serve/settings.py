"""The server's settings, from environment variables set by SageMaker or a user."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from container.cpus import available_cpus
from container.errors import BerthError
from serve.embedded_metrics import METRIC_NAMES

REALTIME_PAYLOAD_MB = 25
"""SageMaker's limit for a real-time invocation."""

BATCH_PAYLOAD_MB = 100
"""SageMaker's limit for one batch record, and for all records in flight."""

UNLIMITED_PAYLOAD_MB = 1024
"""The limit for `0`, which means any size in a batch transform: bodies are held in memory."""

IN_FLIGHT = 128
"""Requests handled at once; further ones get status 503 and Retry-After."""

STRATEGIES = ("SINGLE_RECORD", "MULTI_RECORD")
PRECISIONS = ("auto", "float32", "bfloat16", "int8", "fastest")
LOG_FORMATS = ("text", "json")


_CONTAINER_FILES = (".dockerenv", "run/.containerenv")
"""Files in a container's root, from Docker or from Podman and CRI-O."""

_CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI_V4")
_CGROUPS = re.compile(
    r"/(docker|kubepods|ecs|lxc|containerd|garden|actions_job)(/|\.slice)"
    r"|/(docker-|libpod-|crio-|cri-containerd-|lxc\.payload\.)",
)


_NAMESPACE = re.compile(r"(?!AWS/)[0-9A-Za-z._/# -][0-9A-Za-z._/#: -]{0,254}")
_DIMENSION_NAME = re.compile(r"(?!:)[!-<>-~]{1,255}")
_DIMENSION_VALUE = re.compile(r"[!-~](?:[ -~]{0,1022}[!-~])?")
DIMENSIONS = 30
"""CloudWatch's limits (API reference: PutMetricData, Dimension); its own names begin with AWS/."""


class ServerSettingsError(BerthError):
    """An environment variable has an invalid value."""


@dataclass(frozen=True)
class Settings:
    """How the server runs.

    `SAGEMAKER_SAFE_PORT_RANGE` is not read: it lists additional ports that a container may open.

    Attributes:
        model_dir: where the artifact is; only ever read.
        host: address to listen on, `BERTH_BIND_HOST`; by default every interface in a container, as
            SageMaker needs, and 127.0.0.1 elsewhere.
        port: TCP port.
        payload_mb: largest request body, in MB of 1024 * 1024 bytes.
        transforms: concurrent requests that a batch transform should send.
        strategy: how a batch transform should group records.
        advertised_mb: the body size reported to a batch transform. SageMaker refuses a job if
            `transforms * advertised_mb` exceeds 100 MB, so it can be less than `payload_mb`.
        cpus: CPU cores this process may use.
        precision: precision of the forward pass, `BERTH_PRECISION`: float32, bfloat16, int8,
            fastest, or auto, which is float32 on a CPU and float16 on a GPU.
        models_dir: folder of the models of a multi-model endpoint, `SAGEMAKER_MULTI_MODEL=true`;
            None to serve the model in `model_dir`.
        max_models: most models of a multi-model endpoint in memory, `BERTH_MAX_MODELS`; None for no
            limit but memory.
        log_format: format of the log, `BERTH_LOG_FORMAT`: text or json.
        cloudwatch_namespace: CloudWatch namespace of metrics in the log,
            `BERTH_CLOUDWATCH_NAMESPACE`; None to write none.
        cloudwatch_dimensions: names and values of their dimensions, `BERTH_CLOUDWATCH_DIMENSIONS`:
            NAME=VALUE, separated by commas.
    """

    model_dir: Path
    host: str
    port: int
    payload_mb: int
    transforms: int
    strategy: str
    advertised_mb: int
    cpus: int
    precision: str = "auto"
    models_dir: Path | None = None
    max_models: int | None = None
    log_format: str = "text"
    cloudwatch_namespace: str | None = None
    cloudwatch_dimensions: Mapping[str, str] = field(default_factory=dict)

    @property
    def payload_bytes(self) -> int:
        """Largest request body in bytes."""
        return self.payload_mb * 1024 * 1024

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the variables. Raises ServerSettingsError naming the first invalid one."""
        batch = environ.get("SAGEMAKER_BATCH", "").strip().lower() == "true"
        given = _whole(environ, "SAGEMAKER_MAX_PAYLOAD_IN_MB", 0, UNLIMITED_PAYLOAD_MB)
        payload = BATCH_PAYLOAD_MB if batch else REALTIME_PAYLOAD_MB
        if given is not None:
            payload = given or UNLIMITED_PAYLOAD_MB

        cpus = available_cpus()
        transforms = _whole(environ, "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", 1, 1000)
        if transforms is None:
            # One more than cores, so that decoding overlaps with the forward pass.
            transforms = cpus + 1 if given is None else min(cpus + 1, BATCH_PAYLOAD_MB // payload)
            transforms = max(1, transforms)
        advertised = max(1, min(payload, BATCH_PAYLOAD_MB // transforms))

        base = Path(environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
        multi_model = environ.get("SAGEMAKER_MULTI_MODEL", "").strip().lower() == "true"
        return cls(
            model_dir=base / "model",
            host=_host(environ),
            port=_whole(environ, "SAGEMAKER_BIND_TO_PORT", 1, 65535) or 8080,
            payload_mb=payload,
            transforms=transforms,
            strategy=_one_of(environ, "SAGEMAKER_BATCH_STRATEGY", STRATEGIES),
            advertised_mb=advertised if given is None else given,
            cpus=cpus,
            precision=_one_of(environ, "BERTH_PRECISION", PRECISIONS),
            log_format=_one_of(environ, "BERTH_LOG_FORMAT", LOG_FORMATS),
            models_dir=base / "models" if multi_model else None,
            max_models=_whole(environ, "BERTH_MAX_MODELS", 1, 100_000),
            cloudwatch_namespace=_namespace(environ),
            cloudwatch_dimensions=_dimensions(environ),
        )


def in_container(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> bool:
    """Whether this process runs in a container, from the runtime's files, variables or cgroup.

    Only there the server must listen on every interface; elsewhere that would expose it to the
    network.
    """
    if any((root / mark).exists() for mark in _CONTAINER_FILES):
        return True
    # systemd's container interface sets container=podman.
    if environ.get("container") or any(environ.get(name) for name in _CONTAINER_VARIABLES):
        return True
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return _CGROUPS.search(groups) is not None


def _host(environ: Mapping[str, str]) -> str:
    host = environ.get("BERTH_BIND_HOST", "").strip()
    if not host:
        return "0.0.0.0" if in_container(environ) else "127.0.0.1"  # noqa: S104
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        address = ip_address(host)
    except ValueError:
        if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", host):
            return host
        raise ServerSettingsError(
            f"BERTH_BIND_HOST: found {host!r:.80}, expected an address such as 127.0.0.1 or 0.0.0.0"
        ) from None
    return f"[{address}]" if address.version == 6 else host


def _namespace(environ: Mapping[str, str]) -> str | None:
    found = environ.get("BERTH_CLOUDWATCH_NAMESPACE", "").strip()
    if found and not _NAMESPACE.fullmatch(found):
        raise ServerSettingsError(
            f"BERTH_CLOUDWATCH_NAMESPACE: found {found!r:.80}, expected at most 255 letters, "
            "digits, spaces and . - _ / # : that do not begin with AWS/ or a colon"
        )
    return found or None


def _dimensions(environ: Mapping[str, str]) -> dict[str, str]:
    name = "BERTH_CLOUDWATCH_DIMENSIONS"
    text = environ.get(name, "").strip()
    found: dict[str, str] = {}
    for each in text.split(",") if text else ():
        key, _, value = map(str.strip, each.partition("="))
        if not (_DIMENSION_NAME.fullmatch(key) and _DIMENSION_VALUE.fullmatch(value)):
            raise ServerSettingsError(
                f"{name}: found {each!r:.80}, expected NAME=VALUE in ASCII, separated by commas"
            )
        if key in found or key in METRIC_NAMES:
            raise ServerSettingsError(
                f"{name}: found {key!r:.80}, expected a name that no other dimension or metric has"
            )
        found[key] = value
    if len(found) > DIMENSIONS:
        raise ServerSettingsError(
            f"{name}: found {len(found)} dimensions, expected at most {DIMENSIONS}"
        )
    return found


def _one_of(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """The variable's value, or the first choice if it is not set."""
    found = environ.get(name) or choices[0]
    if found not in choices:
        raise ServerSettingsError(f"{name}: found {found!r}, expected {' or '.join(choices)}")
    return found


def _whole(environ: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else -1
    if not low <= value <= high:
        raise ServerSettingsError(
            f"{name}: found {text!r:.80}, expected a whole number from {low} to {high}"
        )
    return value
