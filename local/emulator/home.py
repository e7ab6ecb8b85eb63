"""Where the local SageMaker keeps everything: one folder of the user's."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True)
class Home:
    """The folder and what lies where in it.

    Attributes:
        path: `$BERTH_HOME`, or `berth` in the user's data directory.
    """

    path: Path

    @classmethod
    def find(cls, path: Path | None = None) -> "Home":
        """The home at `path`, else at `$BERTH_HOME`, else the user's own; made when missing."""
        chosen = path or os.environ.get("BERTH_HOME") or platformdirs.user_data_dir("berth")
        home = cls(Path(chosen).expanduser().resolve())
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return home

    @property
    def database(self) -> Path:
        """SQLite: every resource, tag and job."""
        return self.path / "state.sqlite"

    @property
    def server_file(self) -> Path:
        """JSON about the running server: `pid`, `port`, `url`, `executor`, `started`."""
        return self.path / "server.json"

    @property
    def server_log(self) -> Path:
        """What the server itself prints."""
        return self.path / "server.log"

    @property
    def objects(self) -> Path:
        """S3's objects, as files."""
        return self.path / "s3"

    @property
    def logs(self) -> Path:
        """CloudWatch's log events, a file a stream."""
        return self.path / "logs"

    def job(self, kind: str, name: str) -> Path:
        """The folder of one job or endpoint: its hosts' `/opt/ml` trees lie in it."""
        return self.path / "jobs" / kind / name
