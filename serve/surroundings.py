"""Whether this process runs in a container, where only an address of every interface is reachable.

On a person's own machine the same would let the whole network in.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

_MARKS = (".dockerenv", "run/.containerenv")
"""Files that Docker, and Podman and CRI-O, leave in a container's root."""

_VARIABLES = ("KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI_V4")
_CGROUPS = re.compile(
    r"/(docker|kubepods|ecs|lxc|containerd|garden|actions_job)(/|\.slice)"
    r"|/(docker-|libpod-|crio-|cri-containerd-|lxc\.payload\.)",
)


def in_container(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> bool:
    """By the runtime's marks, its variables, or the cgroup that this process is in."""
    if any((root / mark).exists() for mark in _MARKS):
        return True
    # By systemd's container interface the manager names itself: container=podman.
    if environ.get("container") or any(environ.get(name) for name in _VARIABLES):
        return True
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return _CGROUPS.search(groups) is not None
