"""Temporary keys of the local STS, which are only valid until the server stops."""

import re
import secrets
import threading
import time
from datetime import UTC, datetime

from werkzeug.wrappers import Response

from local.emulator.aws.signature.keys import Key

EXAMPLE_SESSIONS = ("GetSessionToken", "GetFederationToken")
"""Operations for which moto returns the example key of AWS's documentation."""


class Sessions:
    """The temporary keys; thread-safe."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._lock = threading.Lock()

    def find(self, key_id: str) -> Key | None:
        """The key with this ID; None if there is none."""
        with self._lock:
            return self._keys.get(key_id)

    def add(self, operation: str, response: Response) -> None:
        """Store the key in an STS response; moto's example key is replaced with a random one."""
        if operation in EXAMPLE_SESSIONS:
            _write(response, "AccessKeyId", f"ASIA{secrets.token_hex(8).upper()}")
            _write(response, "SecretAccessKey", secrets.token_hex(20))
            _write(response, "SessionToken", secrets.token_urlsafe(96))
        key_id, secret, token, expiration = (
            _read(response, name)
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
        )
        if not key_id:
            return
        end = datetime.fromisoformat(expiration)
        key = Key(secret, token, (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp())
        with self._lock:
            now = time.time()
            live = {name: one for name, one in self._keys.items() if (one.end or now) >= now}
            self._keys = live | {key_id: key}


def _read(response: Response, name: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>", response.get_data(as_text=True))
    return found[1] if found else ""


def _write(response: Response, name: str, value: str) -> None:
    text = response.get_data(as_text=True)
    response.set_data(re.sub(f"<{name}>.*?</{name}>", f"<{name}>{value}</{name}>", text))
