"""Finds this container's GPUs without importing torch or calling a driver.

Importing torch would cost every CPU server a second at start and hundreds of megabytes.
"""

import os
import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

NONE = {"", "-1", "none", "void", "nodevfiles"}
"""Values of CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES that hide all GPUs."""


def gpus(environ: Mapping[str, str] = os.environ, dev: Path = Path("/dev")) -> tuple[str, ...]:
    """The names of the GPUs for CUDA_VISIBLE_DEVICES; empty on a CPU host.

    Does not check the driver; the torch engine detects one that is too old.
    """
    if environ.get("NVIDIA_VISIBLE_DEVICES", "all").strip().lower() in NONE:
        return ()
    if dev.is_dir():
        numbers = (re.fullmatch(r"nvidia(\d+)", entry.name) for entry in dev.iterdir())
        present = sorted((match[1] for match in numbers if match), key=int)
    else:
        present = []
    # WSL 2 has one paravirtual device for a GPU of any vendor, so the NVIDIA runtime's variable
    # must be set too.
    if not present and (dev / "dxg").exists() and environ.get("NVIDIA_VISIBLE_DEVICES"):
        present = ["0"]
    if not present:
        return ()
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        # CUDA renumbers a container's GPUs from 0, whatever their numbers on the host.
        return tuple(str(index) for index in range(len(present)))
    if visible.strip().lower() in NONE:
        return ()
    return tuple(name.strip() for name in visible.split(",") if name.strip())


def first_free(names: Iterable[str], taken: Iterable[str | None]) -> str | None:
    """The first GPU that no worker has; None when all are taken."""
    used = set(taken)
    return next((name for name in names if name not in used), None)


def torch_installed() -> bool:
    """Whether torch is installed, without importing it."""
    return find_spec("torch") is not None
