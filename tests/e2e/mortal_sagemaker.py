"""A local SageMaker that runs the toy image and kills itself at a given moment.

    python tests/e2e/mortal_sagemaker.py HOME process|docker [MOMENT]

MOMENT is JSON: `[kind, name, field, value]` kills the server (SIGKILL) as soon as that field of
that resource is stored with that value; a number kills it after so many stored changes.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.emulator.executors import Executor
from local.emulator.executors.process import ProcessExecutor
from local.emulator.home import Home
from local.emulator.server import Server
from local.emulator.store import Kind, Record, Store

TOY = Path(__file__).parents[1] / "toy"


class Mortal(Store):
    """A store that kills its process at `moment`."""

    moment: Any = None
    writes = 0

    def add(self, *arguments: Any, **more: Any) -> Record:
        record = super().add(*arguments, **more)
        self._look(record)
        return record

    def update(self, kind: Kind, name: str, change: Callable[[Record], None]) -> Record:
        record = super().update(kind, name, change)
        self._look(record)
        return record

    def _look(self, record: Record) -> None:
        Mortal.writes += 1
        if isinstance(self.moment, int):
            now = Mortal.writes >= self.moment
        elif self.moment is not None:
            kind, name, field, value = self.moment
            now = (record.kind, record.name, record.body.get(field)) == (kind, name, value)
        else:
            now = False
        if now:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: str, executor: str, moment: str = "null") -> None:
    from local.emulator import regions

    home = Home.find(Path(folder))
    Mortal.moment = json.loads(moment)
    runs: Executor
    if executor == "docker":
        from local.emulator.executors.docker import DockerExecutor

        runs = DockerExecutor(home)
    else:
        commands = {verb: (sys.executable, str(TOY / f"{verb}.py")) for verb in ("train", "serve")}
        runs = ProcessExecutor(home, {"toy": commands})
    regions.Store = Mortal  # type: ignore[attr-defined]
    server = Server(home, executor=runs)
    signal.signal(signal.SIGTERM, lambda *_: server.request_stop())
    print(server.url, flush=True)
    with server:
        server.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
