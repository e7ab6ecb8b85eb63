"""The local account: its id and its access key, which has all permissions."""

import configparser
import contextlib
import os
import secrets
import string
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from local.emulator.home import Home
from local.errors import UserError

ACCOUNT = "123456789012"
"""The local account's id, which is moto's default."""
PROFILE = "default"
ID_LENGTH = 20
"""An access key ID's length; AWS allows 16 to 128 letters and digits."""


@dataclass(frozen=True)
class Credentials:
    """An access key: its id and its secret."""

    key_id: str
    secret: str = field(repr=False)


def credentials(home: Home) -> Credentials:
    """The home's access key; the first call creates a random one.

    It is stored in `credentials`, which the AWS SDKs can read as `AWS_SHARED_CREDENTIALS_FILE`.

    Raises:
        UserError: the file cannot be read or has no access key.
    """
    path = home.credentials_file
    try:
        return _read(path)
    except FileNotFoundError:
        _create(path)
        return _read(path)


def _read(path: Path) -> Credentials:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
        section = parser[PROFILE]
        found = Credentials(section["aws_access_key_id"], section["aws_secret_access_key"])
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except (configparser.Error, KeyError, UnicodeDecodeError):
        found = Credentials("", "")
    if not found.key_id or not found.secret:
        raise UserError(
            f"{path}: found no access key, expected aws_access_key_id and aws_secret_access_key "
            f"under [{PROFILE}]; delete the file to get a new key"
        )
    return found


def _create(path: Path) -> None:
    """Create the file atomically; if two processes create it at the same time, one wins."""
    alphabet = string.ascii_uppercase + string.digits
    key_id = "BERTH" + "".join(secrets.choice(alphabet) for _ in range(ID_LENGTH - len("BERTH")))
    text = (
        f"[{PROFILE}]\naws_access_key_id = {key_id}\n"
        f"aws_secret_access_key = {secrets.token_hex(20)}\n"
    )
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".credentials-")  # mode 0600
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)
