"""Where the local SageMaker keeps everything: one folder of the user's."""

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from local.emulator.file_names import as_on_disk, file_name
from local.errors import UserError

PRIVATE = 0o700
OTHERS = 0o077
OWN_FILES = ("state.sqlite", "server.log", "server.json", "credentials")
"""What a folder holds that has been a home."""


@dataclass(frozen=True)
class Home:
    """The folder and what lies where in it.

    Attributes:
        path: `$BERTH_HOME`, or `berth` in the user's data directory.
    """

    path: Path

    @classmethod
    def find(cls, path: Path | None = None) -> "Home":
        """The home at `path`, else at `$BERTH_HOME`, else the user's own; made when missing.

        Nobody but its owner may look into it.

        Raises:
            UserError: it is another user's, or holds other things that others may read, or the
                user has no home folder that it could be in.
        """
        chosen = path or os.environ.get("BERTH_HOME")
        try:
            place = Path(chosen or platformdirs.user_data_dir("berth")).expanduser().resolve()
        except RuntimeError:
            raise UserError(
                f"home: found no home folder (HOME is not set and uid {os.getuid()} has no entry "
                "in /etc/passwd); choose a folder with --home or BERTH_HOME"
            ) from None
        with contextlib.suppress(OSError):  # a folder above it that may not be listed
            place = as_on_disk(place)
        home = cls(place)
        try:
            home.path.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
            home._close()
        except OSError as error:
            raise UserError(
                f"{home.path}: {error.strerror or error}; choose a folder of your own with --home "
                "or BERTH_HOME"
            ) from None
        return home

    def _close(self) -> None:
        """Take from others what rights they have in the folder."""
        found = self.path.stat()
        if found.st_uid != os.geteuid() and os.geteuid() != 0:
            raise UserError(
                f"{self.path}: another user's folder (uid {found.st_uid}); choose one of your own "
                "with --home or BERTH_HOME"
            )
        if not found.st_mode & OTHERS:
            return
        names = [entry.name for entry in self.path.iterdir()]
        if names and not any(name in OWN_FILES for name in names):
            raise UserError(
                f"{self.path}: other users may enter it (mode {stat.S_IMODE(found.st_mode):o}) and "
                f"it holds {names[0]}; expected an empty folder, or one for you alone: "
                f"chmod 700 {self.path}"
            )
        self.path.chmod(PRIVATE)
        if self.path.stat().st_mode & OTHERS:
            raise UserError(
                f"{self.path}: the disk keeps no permissions, as a Windows drive under WSL, and "
                "others could read the access key; choose a folder of the system's own disk with "
                "--home or BERTH_HOME"
            )

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
    def credentials_file(self) -> Path:
        """The access key that clients sign with, as AWS's SDKs read it."""
        return self.path / "credentials"

    @property
    def sdk_file(self) -> Path:
        """What SageMaker's Python SDK reads: the default bucket and role (`berth env`)."""
        return self.path / "sagemaker.yaml"

    @property
    def objects(self) -> Path:
        """S3's objects, as files."""
        return self.path / "s3"

    @property
    def logs(self) -> Path:
        """CloudWatch's log events, a file a stream."""
        return self.path / "logs"

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that mark this home's containers and processes."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:12]

    @property
    def processes(self) -> Path:
        """A file for each process that the process executor started and did not yet remove."""
        return self.path / "processes"

    @property
    def warm_pool_cache(self) -> Path:
        """What training jobs share as `/opt/ml/sagemaker/warmpoolcache`; it outlives them."""
        return self.path / "warm-pool-cache"

    @property
    def containers_marker(self) -> Path:
        """A file that exists while the home may have containers or networks on an engine."""
        return self.path / "containers"

    def job(self, kind: str, name: str) -> Path:
        """The folder of one job or endpoint: its hosts' `/opt/ml` trees lie in it."""
        return self.path / "jobs" / kind / file_name(self.path, name)
