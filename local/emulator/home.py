"""The home: the folder where the local SageMaker keeps its data."""

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
"""Files that show that a folder is a home."""


@dataclass(frozen=True)
class Home:
    """A home and the paths in it.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def find(cls, path: Path | None = None) -> "Home":
        """Find or create the home, which only its owner may access.

        It is at `path`, at `$BERTH_HOME`, or in `berth` in the user's data directory.

        Raises:
            UserError: the folder belongs to another user, it has other files and is accessible to
                others, or the user has no home directory.
        """
        chosen = path or os.environ.get("BERTH_HOME")
        try:
            place = Path(chosen or platformdirs.user_data_dir("berth")).expanduser().resolve()
        except RuntimeError:
            raise UserError(
                f"home: found no home folder (HOME is not set and uid {os.getuid()} has no entry "
                "in /etc/passwd); choose a folder with --home or BERTH_HOME"
            ) from None
        with contextlib.suppress(OSError):  # a parent folder may not be readable
            place = as_on_disk(place)
        home = cls(place)
        try:
            home.path.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
            home._make_private()
        except OSError as error:
            raise UserError(
                f"{home.path}: {error.strerror or error}; choose a folder of your own with --home "
                "or BERTH_HOME"
            ) from None
        return home

    def _make_private(self) -> None:
        """Remove other users' permissions on the folder."""
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
                f"{self.path}: other users can access it (mode {stat.S_IMODE(found.st_mode):o}) "
                f"and it contains {names[0]}; expected an empty or private folder: "
                f"chmod 700 {self.path}"
            )
        self.path.chmod(PRIVATE)
        if self.path.stat().st_mode & OTHERS:
            raise UserError(
                f"{self.path}: the file system does not support permissions (a Windows drive in "
                "WSL?), so others could read the access key; choose a folder on another disk with "
                "--home or BERTH_HOME"
            )

    @property
    def database(self) -> Path:
        """SQLite database of resources and tags."""
        return self.path / "state.sqlite"

    @property
    def server_file(self) -> Path:
        """JSON with the running server's `pid`, `port`, `url`, `executor` and `started`."""
        return self.path / "server.json"

    @property
    def server_log(self) -> Path:
        """The server's log."""
        return self.path / "server.log"

    @property
    def credentials_file(self) -> Path:
        """The access key, in the format of AWS's credentials file."""
        return self.path / "credentials"

    @property
    def sdk_file(self) -> Path:
        """The SageMaker Python SDK's configuration file, written by `berth env`."""
        return self.path / "sagemaker.yaml"

    @property
    def objects(self) -> Path:
        """The folder of S3 objects."""
        return self.path / "s3"

    @property
    def logs(self) -> Path:
        """The folder of CloudWatch log streams, one file each."""
        return self.path / "logs"

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that label this home's containers and processes."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:12]

    @property
    def processes(self) -> Path:
        """The folder with a file for each process of the process executor."""
        return self.path / "processes"

    @property
    def warm_pool_cache(self) -> Path:
        """The folder that all training jobs share as `/opt/ml/sagemaker/warmpoolcache`."""
        return self.path / "warm-pool-cache"

    @property
    def containers_marker(self) -> Path:
        """A file that exists while an engine may have containers or networks of this home."""
        return self.path / "containers"

    def job(self, kind: str, name: str) -> Path:
        """The folder of a job or endpoint, with the `/opt/ml` folders of its hosts."""
        return self.path / "jobs" / kind / file_name(self.path, name)
