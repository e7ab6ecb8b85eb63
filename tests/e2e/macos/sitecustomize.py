"""Hides from this Python process what Linux has and macOS lacks; used through PYTHONPATH.

Functions and constants of Linux are removed, /proc, /sys and /dev/shm do not exist, multiprocessing
spawns instead of forking, and the project's own code sees `darwin` as its platform. Libraries see
the real platform, as they are built for it.
"""

import builtins
import ctypes
import errno
import fcntl
import io
import multiprocessing
import multiprocessing.context
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[3]
OURS = tuple(f"{ROOT / tree}{os.sep}" for tree in ("container", "serve", "local"))
HIDDEN = ("/proc", "/sys", "/dev/shm")
LINUX_ONLY: dict[Any, tuple[str, ...]] = {
    os: ("copy_file_range", "eventfd", "getresgid", "getresuid", "getxattr", "listxattr",
         "memfd_create", "O_DIRECT", "O_LARGEFILE", "O_NOATIME", "O_PATH", "O_TMPFILE",
         "pidfd_open", "posix_fadvise", "posix_fallocate", "process_cpu_count", "removexattr",
         "sched_getaffinity", "sched_getscheduler", "sched_setaffinity", "sched_setscheduler",
         "setns", "setresgid", "setresuid", "setxattr", "splice", "unshare"),
    select: ("epoll",),
    signal: ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGRTMIN", "SIGRTMAX"),
    socket: ("MSG_NOSIGNAL", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PEERCRED", "SO_BINDTODEVICE",
             "TCP_QUICKACK", "TCP_USER_TIMEOUT"),
    resource: ("prlimit", "RUSAGE_THREAD"),
    fcntl: tuple(name for name in dir(fcntl) if name.startswith(("F_OFD_", "F_SEAL_"))),
}  # fmt: skip
GLIBC = frozenset({"malloc_trim", "mallopt", "prctl", "sched_getaffinity"})

for module, names in LINUX_ONLY.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def _hide(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that the hidden folders do not exist for it.

    psutil may still read them, as it works without them on macOS.
    """

    def hiding(path: Any = ".", *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str | os.PathLike):
            text = os.fspath(path)
            for folder in HIDDEN if isinstance(text, str) else ():
                if (text == folder or text.startswith(f"{folder}/")) and not _asked_by_psutil():
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
        return function(path, *arguments, **options)

    return hiding


def _asked_by_psutil() -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if f"{os.sep}psutil{os.sep}" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def _access(path: Any, *arguments: Any, **options: Any) -> bool:
    try:
        os.stat(path)  # noqa: PTH116  # raises for hidden folders
    except OSError:
        return False
    return _real_access(path, *arguments, **options)


for name in ("listdir", "lstat", "open", "readlink", "scandir", "stat", "statvfs"):
    setattr(os, name, _hide(getattr(os, name)))
builtins.open = io.open = _hide(io.open)
_real_access = os.access
os.access = _access

_symbol = ctypes.CDLL.__getattr__


def _c_function(library: ctypes.CDLL, name: str) -> Any:
    if name in GLIBC:
        raise AttributeError(name)
    return _symbol(library, name)


ctypes.CDLL.__getattr__ = _c_function  # type: ignore[method-assign]

multiprocessing.set_start_method("spawn", force=True)
multiprocessing.context._concrete_contexts.pop("fork")  # type: ignore[attr-defined]

_get_code = SourceFileLoader.get_code


def _code(loader: SourceFileLoader, name: str) -> CodeType | None:
    path = loader.get_filename(name)
    source = (path.startswith(OURS) and loader.get_source(name)) or ""
    if "sys.platform" not in source:
        return _get_code(loader, name)
    return compile(source.replace("sys.platform", '"darwin"'), path, "exec")


SourceFileLoader.get_code = _code  # type: ignore[method-assign, assignment]
