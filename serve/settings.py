"""What the environment says about how to serve: the variables SageMaker sets or a user may set."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from container.cpus import available_cpus
from container.errors import BerthError
from serve.surroundings import in_container

REALTIME_PAYLOAD_MB = 25
"""SageMaker's limit for a real-time invocation."""

BATCH_PAYLOAD_MB = 100
"""SageMaker's limit for one batch record, and for records in flight taken together."""

UNLIMITED_PAYLOAD_MB = 1024
"""What `0`, a batch transform's word for "any size", is bounded by: one body is held in memory."""

IN_FLIGHT = 128
"""Requests answered at once; the rest are told to come back."""

STRATEGIES = ("SINGLE_RECORD", "MULTI_RECORD")
PRECISIONS = ("auto", "float32", "bfloat16")


class SettingsError(BerthError):
    """An environment variable holds something that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """How this server was asked to run.

    `SAGEMAKER_SAFE_PORT_RANGE` is not read: it names the ports a container may open for itself,
    and this one opens none beside `port`.

    Attributes:
        model_dir: where the artifact is; only ever read.
        host: address to listen on: `BERTH_BIND_HOST`; without it every interface in a container,
            as SageMaker needs, and 127.0.0.1 elsewhere.
        port: TCP port.
        payload_mb: largest request body, in MB of 1024 * 1024 bytes.
        transforms: requests a batch transform should keep in flight.
        strategy: how a batch transform should group records.
        advertised_mb: the body size a batch transform is told. SageMaker refuses a job whose
            `transforms * advertised_mb` is above 100 MB, so it can be less than `payload_mb`.
        cpus: processor cores this process may use.
        precision: what the forward pass computes in, `BERTH_PRECISION`: float32, bfloat16, or auto,
            which is float32 on a CPU and float16 on a GPU.
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

    @property
    def payload_bytes(self) -> int:
        """Largest request body in bytes."""
        return self.payload_mb * 1024 * 1024

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the variables. Raises SettingsError naming the first that cannot be used."""
        batch = environ.get("SAGEMAKER_BATCH", "").strip().lower() == "true"
        asked = _whole(environ, "SAGEMAKER_MAX_PAYLOAD_IN_MB", 0, UNLIMITED_PAYLOAD_MB)
        payload = BATCH_PAYLOAD_MB if batch else REALTIME_PAYLOAD_MB
        if asked is not None:
            payload = asked or UNLIMITED_PAYLOAD_MB

        cpus = available_cpus()
        transforms = _whole(environ, "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", 1, 1000)
        if transforms is None:
            # One more than cores, so that decoding the next image overlaps the forward pass.
            transforms = cpus + 1 if asked is None else min(cpus + 1, BATCH_PAYLOAD_MB // payload)
            transforms = max(1, transforms)
        advertised = max(1, min(payload, BATCH_PAYLOAD_MB // transforms))

        return cls(
            model_dir=Path(environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml") / "model",
            host=_host(environ),
            port=_whole(environ, "SAGEMAKER_BIND_TO_PORT", 1, 65535) or 8080,
            payload_mb=payload,
            transforms=transforms,
            strategy=_one_of(environ, "SAGEMAKER_BATCH_STRATEGY", STRATEGIES),
            advertised_mb=advertised if asked is None else asked,
            cpus=cpus,
            precision=_one_of(environ, "BERTH_PRECISION", PRECISIONS),
        )


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
        raise SettingsError(
            f"BERTH_BIND_HOST: found {host!r:.80}, expected an address such as 127.0.0.1 or 0.0.0.0"
        ) from None
    return f"[{address}]" if address.version == 6 else host


def _one_of(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """The variable's value; the first of the choices where it is not set."""
    found = environ.get(name) or choices[0]
    if found not in choices:
        raise SettingsError(f"{name}: found {found!r}, expected {' or '.join(choices)}")
    return found


def _whole(environ: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and low <= int(text[:9]) <= high):
        raise SettingsError(f"{name}: found {text!r}, expected a whole number from {low} to {high}")
    return int(text)
