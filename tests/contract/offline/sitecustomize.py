"""Refuses connections of this Python process to other machines; used through PYTHONPATH.

Only loopback addresses and Unix sockets are allowed.
"""

import ipaddress
import socket
from typing import Any

_connect = socket.socket.connect


def _local_only(self: Any, address: Any) -> Any:
    if self.family != socket.AF_UNIX:
        host = "127.0.0.1" if address[0] == "localhost" else address[0]
        if not ipaddress.ip_address(host).is_loopback:
            raise OSError(f"no connection may leave this machine: {address}")
    return _connect(self, address)


socket.socket.connect = _local_only  # type: ignore[method-assign]
