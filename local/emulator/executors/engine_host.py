"""The machine that an engine's containers run on, as this process reaches it."""

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
    """Where containers are reached.

    Attributes:
        address: where their published ports listen: this machine's loopback, which Docker Desktop
            and other virtual machines forward, or the address of the machine the engine is on.
        routed: whether a container's own address leads to it from here.
    """

    address: str = LOOPBACK
    routed: bool = True


def find_engine_host(base_url: str, info: Mapping[str, Any]) -> EngineHost:
    """The host of an engine.

    Args:
        base_url: the SDK's URL of the engine: `http://host:port` of one that `DOCKER_HOST` names
            as `tcp://`, `http+docker://…` of a socket's.
        info: what `docker info` shows.

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
