"""Platforms of images, Docker engines and instance types: `linux/amd64` or `linux/arm64`."""

import re
from collections.abc import Mapping
from typing import Any

AMD64 = "linux/amd64"
ARM64 = "linux/arm64"
DEFAULT = AMD64
"""The platform of every instance type without a Graviton or Grace processor."""

_INSTANCE_TYPE = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9]+")
_ARM = re.compile(r"ml\.([a-z]+\d+g[a-z]*\.|.*-gb\d)")
"""ml.c7g, ml.m6gd and ml.r8g (Graviton), ml.p6e-gb200 (Grace); not ml.g5 or ml.g4dn."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Docker's name of an architecture by the kernel's, where the two differ."""


def is_instance_type(name: str) -> bool:
    """Whether a name has the form of an instance type, such as `ml.m5.large`."""
    return _INSTANCE_TYPE.fullmatch(name) is not None


def of_instance(instance_type: str) -> str:
    """The platform of an instance type."""
    return ARM64 if _ARM.match(instance_type) else DEFAULT


def of_image(facts: Mapping[str, Any]) -> str | None:
    """The platform in the output of `docker image inspect`; None if it is missing."""
    system, architecture = facts.get("Os"), facts.get("Architecture")
    return f"{system}/{architecture}" if system and architecture else None


def of_engine(info: Mapping[str, Any]) -> str | None:
    """The engine's native platform in the output of `docker info`; None if it is missing."""
    machine = info.get("Architecture")
    return f"{info.get('OSType') or 'linux'}/{_MACHINES.get(machine, machine)}" if machine else None


def problem(facts: Mapping[str, Any], instance_type: str | None) -> str | None:
    """Why an instance cannot run an image, in one line; None if it can.

    Args:
        facts: the output of `docker image inspect`.
        instance_type: None for the default platform, and for serverless endpoints.
    """
    found = of_image(facts)
    expected = of_instance(instance_type) if instance_type else DEFAULT
    if found in (expected, None):
        return None
    whose = f"{instance_type} runs" if instance_type else "SageMaker's instances run"
    return (
        f"platform: found {found}, expected {expected}, which {whose}; "
        f"build it with: make build PLATFORM={expected}"
    )
