"""The machine that runs an engine's containers, and how to reach it."""

import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class EngineHost:
    """How to reach an engine's containers.

    Attributes:
        address: the address of published ports: this machine's loopback, which Docker Desktop and
            other virtual machines forward, or the address of the engine's machine.
        routed: whether containers' own addresses are reachable from here.
    """

    address: str = LOOPBACK
    routed: bool = True


def find_engine_host(base_url: str, info: Mapping[str, Any]) -> EngineHost:
    """The host of an engine.

    Args:
        base_url: the SDK's URL of the engine: `http://host:port` if `DOCKER_HOST` is `tcp://…`,
            `http+docker://…` for a socket.
        info: the output of `docker info`.

    Raises:
        OSError: the name of the engine's machine cannot be resolved.
    """
    parts = urlsplit(base_url)
    if parts.scheme in ("http", "https") and parts.hostname:
        address = socket.gethostbyname(parts.hostname)
        if not ip_address(address).is_loopback:
            return EngineHost(address, routed=False)
    system = str(info.get("OperatingSystem", ""))
    virtual = "Docker Desktop" in system or (sys.platform != "linux" and system != "OrbStack")
    return EngineHost(routed=not virtual)
