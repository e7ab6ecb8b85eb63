"""`berth up` and `berth down`: the local SageMaker as a background process.

A lock file shows whether a server is running, even if the process that started it has ended;
`server.json` has its address.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from local.emulator import lock
from local.emulator.executors import ExecutorName
from local.emulator.home import Home
from local.errors import UserError

DEFAULT_PORT = 4585
START_SECONDS = 60.0
"""Seconds to wait for a server to respond; it takes about one."""
STOP_SECONDS = 150.0
"""Seconds to wait for a server to stop; as on SageMaker, jobs have 120 s to save a checkpoint."""
HEALTH_SECONDS = 5.0
KILL_SECONDS = 10.0
LOG_SIZE = 10 * 1024 * 1024
"""Size in bytes above which `up` rotates the server log."""
TAIL_LINES = 12
NEEDED_BYTES = 1024 * 1024
"""With less free disk space than this, a server can neither start nor log why."""


class DaemonError(UserError):
    """The local SageMaker could not be started or stopped; the message says what to do."""


@dataclass(frozen=True)
class Address:
    """The address of a running server.

    Attributes:
        url: the endpoint URL for AWS clients.
        executor: `docker` or `process`.
        pid: its process id.
        home: its folder.
    """

    url: str
    executor: str
    pid: int
    home: Path


def up(
    home: Home | None = None, *, port: int | None = None, executor: ExecutorName = "auto"
) -> Address:
    """Start the local SageMaker unless it is running, and wait until it responds.

    `port` (or `$BERTH_PORT`) selects the port, 0 for any; the default is 4585, or a free one if
    another process uses that.

    Raises:
        DaemonError: it did not start, or is running with another executor or port.
    """
    home = home or Home.find()
    wanted = port if port is not None else _port_of_environment()
    with _switching(home):
        address = running(home)
        if address is None:
            _wait_until_free(home)
            address = _start(home, wanted, executor)
        else:
            _check_options(address, wanted, executor)
    return address


def down(home: Home | None = None) -> bool:
    """Stop the local SageMaker with its jobs and endpoints; return whether it was running.

    It also stops containers and processes that a killed server left behind.

    Raises:
        DaemonError: the server could not be killed.
    """
    home = home or Home.find()
    with _switching(home):
        pid = lock.holder(home.path / lock.SERVER)
        if pid is not None:
            _end(home, pid)
        _clean_up(home)
        home.server_file.unlink(missing_ok=True)
    return pid is not None


def running(home: Home | None = None) -> Address | None:
    """The running server of this home; None if there is none or it does not respond."""
    home = home or Home.find()
    pid = lock.holder(home.path / lock.SERVER)
    try:
        facts = json.loads(home.server_file.read_text(encoding="utf-8"))
        url, recorded = str(facts["url"]), int(facts["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if pid is None or pid != recorded:
        return None
    health = _health(url)
    if health is None or health.get("home") != str(home.path) or health.get("pid") != pid:
        return None
    return Address(url, str(health["executor"]), pid, home.path)


def _health(url: str) -> dict[str, Any] | None:
    # Requests to 127.0.0.1 must not go through the user's proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/_berth/health", timeout=HEALTH_SECONDS) as response:
            health = json.load(response)
    except (OSError, ValueError, HTTPException):
        return None
    return health if isinstance(health, dict) and health.get("status") == "ok" else None


def _start(home: Home, port: int | None, executor: ExecutorName) -> Address:
    home.server_file.unlink(missing_ok=True)
    log = home.server_log
    if log.exists() and log.stat().st_size > LOG_SIZE:
        log.replace(log.with_suffix(".log.1"))
    command = [sys.executable, "-m", "local.emulator.server", "--home", str(home.path)]
    command += ["--executor", executor, "--port", str(DEFAULT_PORT if port is None else port)]
    if port is None:
        command.append("--any-port")
    with log.open("ab") as output:
        began = output.tell()
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        address = _wait_for_server(home, process, began)
    except BaseException:
        process.kill()
        process.wait()
        raise
    # Reap the server when it ends, in case the caller is still running then.
    threading.Thread(target=process.wait, name="server process", daemon=True).start()
    if port is None and not address.url.endswith(f":{DEFAULT_PORT}"):
        print(f"berth: port {DEFAULT_PORT} is taken; using {address.url}", file=sys.stderr)
    return address


def _wait_for_server(home: Home, process: "subprocess.Popen[bytes]", began: int) -> Address:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if home.server_file.exists() and (address := running(home)):
            return address
        if process.poll() is not None:
            raise DaemonError(_why(home, began))
        time.sleep(lock.POLL_SECONDS)
    raise DaemonError(
        f"the local SageMaker did not respond within {START_SECONDS:.0f} s: {_why(home, began)}"
    )


def _why(home: Home, began: int) -> str:
    """Why a server did not start: its one-line error, or the end of its log."""
    with home.server_log.open("rb") as log:
        log.seek(began)
        lines = log.read().decode(errors="replace").strip().splitlines()
    if not lines and shutil.disk_usage(home.path).free < NEEDED_BYTES:
        return f"{home.path}: no space left on its disk"
    if not lines:
        return f"it logged nothing, see {home.server_log}"
    if any(line.startswith("Traceback") for line in lines):
        return "\n".join([f"{lines[-1]} (from {home.server_log})", *lines[-TAIL_LINES:-1]])
    return lines[-1]


def _check_options(address: Address, port: int | None, executor: ExecutorName) -> None:
    if executor not in ("auto", address.executor):
        raise DaemonError(
            f"the local SageMaker is running with executor {address.executor}, not {executor}; "
            "stop it first: berth down"
        )
    if port and not address.url.endswith(f":{port}"):
        raise DaemonError(
            f"the local SageMaker is running at {address.url}, not on port {port}; stop it first: "
            "berth down"
        )


def _wait_until_free(home: Home) -> None:
    """Wait for an earlier server that is still stopping."""
    try:
        with lock.held(home.path / lock.SERVER, STOP_SECONDS):
            return
    except lock.Taken:
        pid = lock.holder(home.path / lock.SERVER)
        raise DaemonError(
            f"the local SageMaker's process {pid} does not respond; stop it first: berth down"
        ) from None


def _end(home: Home, pid: int) -> None:
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if lock.holder(home.path / lock.SERVER) != pid:
                return
            time.sleep(lock.POLL_SECONDS)
    raise DaemonError(f"the local SageMaker's process {pid} does not end; see {home.server_log}")


def _clean_up(home: Home) -> None:
    from local.emulator.executors.cleanup import clean_up

    removed = clean_up(home)
    if removed:
        left = ", ".join(removed)
        print(f"berth: removed leftovers of a killed server: {left}", file=sys.stderr)


@contextlib.contextmanager
def _switching(home: Home) -> Any:
    """Ensure that only one process at a time starts or stops a server."""
    try:
        with lock.held(home.path / lock.SWITCH, START_SECONDS + STOP_SECONDS):
            yield
    except lock.Taken:
        raise DaemonError(
            f"{home.path}: another process has been starting or stopping the local SageMaker "
            "for minutes; end it first"
        ) from None


def _port_of_environment() -> int | None:
    text = os.environ.get("BERTH_PORT")
    if not text:
        return None
    if not text.isdigit() or int(text) > 65535:
        raise DaemonError(f"BERTH_PORT: found {text!r}, expected a port, 0 to 65535")
    return int(text)
