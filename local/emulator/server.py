"""The local SageMaker's server process: all services on one local port.

    python -m local.emulator.server --home FOLDER --port 4585 --executor auto

`berth up` starts it; see `daemon`.
"""

import argparse
import contextlib
import importlib.metadata
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from container.extras import DISTRIBUTION
from local.emulator import lock
from local.emulator.credentials import credentials
from local.emulator.errors import ServiceError
from local.emulator.executors import Executor, ExecutorError, ExecutorName
from local.emulator.executors.cleanup import clean_up
from local.emulator.home import Home

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

logger = logging.getLogger("local.emulator.server")  # also if it runs as __main__

ADDRESS = "127.0.0.1"
DRAIN_SECONDS = 5.0
"""Seconds to wait for requests in flight when the server stops."""
LOCK_SECONDS = 1.0
"""Seconds to wait for the lock; processes that check for a server hold it for an instant."""
STOP = ("POST", "shutdown")
"""The only operation below /_berth that needs a signature."""


class PortTaken(Exception):
    """Another process uses the port; the message is one line with what to do."""


class Server:
    """The local SageMaker in this process; only one at a time, as moto's state is global.

    Attributes:
        home: the folder of its data.
        services: the services of its default region.
    """

    def __init__(
        self, home: Home, *, port: int = 0, executor: Executor, region: str = "us-east-1"
    ) -> None:
        """Bind the port (0 for a free one) and create the services; `start` serves requests.

        Raises:
            PortTaken: another process uses the port.
        """
        self.home = home
        self._listener = listen(port)
        self._files = contextlib.ExitStack()
        self._files.callback(self._listener.close)
        try:
            self._make_parts(home, executor, region)
        except BaseException:
            self._files.close()
            raise
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._flight = threading.Condition()
        self._in_flight = 0
        self._web: Any = None

    def _make_parts(self, home: Home, executor: Executor, region: str) -> None:
        # These imports take 0.5 s; commands that only look for a running server do not need them.
        from local.emulator.aws.application import AWSServices
        from local.emulator.aws.signature.keys import Keys
        from local.emulator.aws.signature.verification import Verification
        from local.emulator.regions import Regions

        self._aws = AWSServices(home, region)
        self._files.callback(self._aws.close)
        self._verification = Verification(Keys(credentials(home), self._aws.find_key))
        self._regions = Regions(home, region, self._aws, executor, self._files)
        self.services = self._regions.first.services

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """The endpoint URL for AWS clients."""
        return f"http://{ADDRESS}:{self.port}"

    def start(self) -> None:
        """Load the state, clean up after a killed server, recover its jobs, and serve requests."""
        from werkzeug.serving import make_server

        from local.emulator.web import Handler

        self._aws.load()
        removed = clean_up(self.home, self.services.executor)
        if removed:
            logger.info("removed leftovers of an earlier server: %s", ", ".join(removed))
        # This must precede the first request, or a new job would look like a leftover.
        self._regions.recover()
        self._web = make_server(
            ADDRESS,
            self.port,
            self,
            threaded=True,
            request_handler=Handler,
            fd=self._listener.fileno(),
        )
        self._thread = threading.Thread(
            target=self._web.serve_forever, args=(0.05,), name="server", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, interrupt jobs and endpoints in a recoverable way, and close the files.

        It waits for jobs to save a checkpoint, for up to 120 seconds.
        """
        self._stopping.set()
        if self._thread is not None:
            self._web.shutdown()
            self._thread.join()
            self._web.server_close()
            self._thread = None
        self._listener.close()
        with self._flight:
            self._flight.wait_for(lambda: self._in_flight == 0, DRAIN_SECONDS)
        self._regions.shutdown()
        self._files.close()

    def wait(self) -> None:
        """Wait for a signed `POST /_berth/shutdown` or for `request_stop`."""
        self._stopping.wait()

    def request_stop(self) -> None:
        """Make `wait` return."""
        self._stopping.set()

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop it."""
        self.stop()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Handle a request, and log a line about it."""
        from local.emulator import web
        from local.emulator.aws.signature.verification import forget_body

        service, operation, app = self._choose(environ)
        status: list[str] = []
        began = time.perf_counter()

        def start(line: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            status[:] = [line]
            return start_response(line, headers, *error)

        with self._flight:
            self._in_flight += 1

        def end() -> None:
            forget_body(environ)
            with self._flight:
                self._in_flight -= 1
                self._flight.notify_all()
            took = (time.perf_counter() - began) * 1000
            code = status[0].partition(" ")[0] if status else "-"
            # `berth up` polls the health while a server starts.
            level = logging.DEBUG if operation == "health" else logging.INFO
            name = environ.get("berth.operation", operation)
            logger.log(level, "%s %s %s %.1f ms", service, name, code, took)

        return web.Watched(app, environ, start, end)

    def _choose(self, environ: dict[str, Any]) -> tuple[str, str, Any]:
        """The names of the service and the operation, for the log, and the application to call."""
        from werkzeug.exceptions import HTTPException

        from local.emulator import web
        from local.emulator.aws import answers
        from local.emulator.aws.signature import scope as signature
        from local.emulator.aws.signature.verification import drain

        path = str(environ.get("PATH_INFO", ""))
        refusal = web.refusal(environ)
        if refusal is not None:
            return "-", "refused", refusal
        own, method = path.removeprefix("/_berth/"), environ["REQUEST_METHOD"]
        if own != path and (method, own) != STOP:
            return "berth", own, self._own(method, own)
        service = signature.service(environ)
        target = str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]
        named = {
            "sagemaker": target or path,
            "sagemaker-runtime": path.removeprefix("/endpoints/"),
            "s3": signature.s3_operation(environ),
        }
        operation = named.get(service, target or "-")
        try:
            self._verification.check(environ, service)
        except ServiceError as problem:
            drain(environ)
            return service, operation, answers.error(environ, service, problem)
        except HTTPException as problem:
            return service, operation, problem
        if own != path:
            return "berth", own, self._own(method, own)
        if service not in ("sagemaker", "sagemaker-runtime"):
            return service, operation, self._aws
        scope = signature.scope(environ)
        region = self._regions.get(scope.region if scope else self.services.region)
        return service, operation, region.sagemaker if service == "sagemaker" else region.runtime

    def _own(self, method: str, operation: str) -> "Response":
        from werkzeug.wrappers import Response

        if (method, operation) == ("GET", "health"):
            facts = {
                "status": "stopping" if self._stopping.is_set() else "ok",
                "executor": self.services.executor.name,
                "home": str(self.home.path),
                "pid": os.getpid(),
                "version": importlib.metadata.version(DISTRIBUTION),
            }
            return Response(json.dumps(facts), content_type="application/json")
        if (method, operation) == STOP:
            self.request_stop()
            return Response('{"status": "stopping"}', content_type="application/json")
        return Response(f"{method} /_berth/{operation}: not found\n", 404)


def listen(port: int) -> socket.socket:
    """A socket that listens on the loopback interface.

    Raises:
        PortTaken: another process uses the port.
    """
    try:
        return socket.create_server((ADDRESS, port), backlog=128)
    except OSError as error:
        raise PortTaken(
            f"port {port}: {error.strerror or error}; choose another one with --port or BERTH_PORT"
        ) from None


def write_server_file(home: Home, server: Server) -> None:
    """Write the server's address for other processes, atomically."""
    facts = {
        "pid": os.getpid(),
        "port": server.port,
        "url": server.url,
        "executor": server.services.executor.name,
        "started": time.time(),
    }
    draft = home.server_file.with_suffix(".new")
    draft.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    draft.replace(home.server_file)


def main(arguments: list[str] | None = None) -> int:
    """Run the server until it is stopped, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.emulator.server", description=__doc__)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--any-port", action="store_true", help="use another port if it is taken")
    parser.add_argument("--executor", choices=get_args(ExecutorName), default="auto")
    parser.add_argument("--region", default="us-east-1")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s"
    )
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    _forget_aws()
    home = Home.find(options.home)
    try:
        with lock.held(home.path / lock.SERVER, LOCK_SECONDS):
            return _run(home, options)
    except lock.Taken:
        print(f"{home.path}: another server is running in this folder", file=sys.stderr)
    except (PortTaken, ExecutorError) as error:
        print(error, file=sys.stderr)
    return 1


def _run(home: Home, options: argparse.Namespace) -> int:
    from local.emulator.executors.factory import create_executor

    executor = create_executor(home, options.executor)
    try:
        server = Server(home, port=options.port, executor=executor, region=options.region)
    except PortTaken as taken:
        if not options.any_port:
            raise
        logger.warning("%s", taken)
        server = Server(home, port=0, executor=executor, region=options.region)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.request_stop())
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(home.server_file.unlink, missing_ok=True)
        with server:
            write_server_file(home, server)
            logger.info("%s, executor %s, %s", server.url, executor.name, home.path)
            server.wait()
            logger.info("stopping")
    logger.info("stopped")
    return 0


def _forget_aws() -> None:
    """Make sure that this process cannot use the user's AWS account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


if __name__ == "__main__":
    sys.exit(main())
