"""gunicorn's configuration: lower-case names are its settings and hooks.

One worker process per GPU, or one for all CPU cores. Each loads the model once and has one queue
for batching; threads only wait, decode and encode. A multi-model endpoint has a single worker,
which must know all models, and serves them on the CPU: on GPUs, SageMaker supports only Triton's
container.
"""

import ctypes
import os
import resource
import shutil
import tempfile
from collections.abc import Iterable
from typing import Any, BinaryIO

from serve.inference.devices import first_free, gpus, torch_installed
from serve.models.known import KnownModels
from serve.settings import IN_FLIGHT, ServerSettingsError, Settings

_SETTINGS = Settings.from_environment()
GPUS = gpus() if torch_installed() and _SETTINGS.models_dir is None else ()

_DESCRIPTORS = 4096
METRICS_BYTES = 1 << 20
"""Disk space for the metrics of each of several workers: four files of 64 KiB that grow with the
number of labels. Without it, each worker counts separately."""


def raise_descriptors() -> int:
    """Raise the limit of open files above the usual 1,024 if allowed; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _DESCRIPTORS:
        return _DESCRIPTORS
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def writable(folders: Iterable[str]) -> str:
    """The first folder that is writable. Raises ServerSettingsError if none is."""
    problems = []
    for folder in folders:
        try:
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            problems.append(f"{folder} ({error.strerror})")
    raise ServerSettingsError(
        f"temporary files: found {' and '.join(problems)}, expected one of them writable, as with "
        "docker run --tmpfs /tmp"
    )


def anonymous_file(folder: str) -> BinaryIO:
    """A file without a name, in memory if possible, so that a full disk does not matter."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("serve"), "w+b")
    return tempfile.TemporaryFile(dir=folder)


def has_room(folder: str, size: int) -> bool:
    """Whether `size` bytes are free; writing to a mapped file on a full disk kills the process."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= size


bind = f"{_SETTINGS.host}:{_SETTINGS.port}"
workers = max(1, len(GPUS))
worker_class = "serve.http.worker.Worker"
# Sixteen more than admitted requests, so that one is free to answer /ping or to refuse.
threads = IN_FLIGHT + 16
# A connection costs a file descriptor; some are reserved for everything else.
worker_connections = min(1000, raise_descriptors() - 200)
backlog = 1024
keepalive = 75
# No proxy in front is trusted to set the request's path or scheme.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}

# SageMaker kills 30 s after SIGTERM.
graceful_timeout = 25
# Long, because a worker whose threads are all in native code is not hung.
timeout = 120

# Heartbeats on a disk can block; but serverless endpoints have no /dev/shm, and perhaps only /tmp
# is writable.
worker_tmp_dir = writable(("/dev/shm", os.environ.get("TMPDIR") or "/tmp"))  # noqa: S108
control_socket_disable = True

# Inherited by every worker, and deleted with the last.
KNOWN_MODELS = None
if _SETTINGS.models_dir is not None:
    KNOWN_MODELS = KnownModels(anonymous_file(worker_tmp_dir))

accesslog = "-"
errorlog = "-"
logger_class = "serve.http.access_log.AccessLog"
proc_name = "serve"

_METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""The folder where several workers count; prometheus_client reads it on import, in a worker."""
if workers > 1 and has_room(worker_tmp_dir, workers * METRICS_BYTES):
    os.environ[_METRICS] = tempfile.mkdtemp(prefix="serve-metrics-", dir=worker_tmp_dir)


def pre_fork(server: Any, worker: Any) -> None:
    """Assign a free GPU to a new worker."""
    worker.gpu = first_free(GPUS, (other.gpu for other in server.WORKERS.values()))


def post_fork(_server: Any, worker: Any) -> None:
    """Set up the worker process before anything is loaded."""
    if worker.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = worker.gpu
    _limit_malloc()


def child_exit(_server: Any, worker: Any) -> None:
    """Drop a dead worker's gauges and keep its counters."""
    if _METRICS in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_dead: Any = mark_process_dead  # has no types
        mark_dead(worker.pid)


def on_exit(_server: Any) -> None:
    """Remove the workers' metrics files."""
    if _METRICS in os.environ:
        shutil.rmtree(os.environ[_METRICS], ignore_errors=True)


def _limit_malloc() -> None:
    """Limit glibc's malloc to two arenas: by default it uses eight per core, and each keeps free
    memory the size of decoded images. Large bodies and images get their own mappings, so their
    memory returns to the system; by default glibc would keep blocks of up to 32 MB."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 16 << 20)


# glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
