"""Who has which secret: the home's own key, users' keys of the local IAM, sessions of its STS."""

import re
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from moto.backends import get_backend
from moto.iam.models import AccessKey

from local.emulator.credentials import ACCOUNT, Credentials

EXAMPLE_SESSIONS = ("GetSessionToken", "GetFederationToken")
"""Operations to which moto answers with AWS's published example key, the same for everybody."""
PARTITION = "aws"


@dataclass(frozen=True)
class Key:
    """What is known of an access key.

    Attributes:
        secret: the secret access key.
        token: the session token that must come with it, None for a key without one.
        end: when the session ends, UTC seconds; None for a key without one.
    """

    secret: str
    token: str | None = None
    end: float | None = None


class Keys:
    """All access keys that may be used here; safe from any thread.

    Args:
        own: the home's.
    """

    def __init__(self, own: Credentials) -> None:
        self._own = own
        self._sessions: dict[str, Key] = {}
        self._lock = threading.Lock()

    def find(self, key_id: str) -> Key | None:
        """The key with this ID, if it may be used."""
        if key_id == self._own.key_id:
            return Key(self._own.secret)
        with self._lock:
            if key_id in self._sessions:
                return self._sessions[key_id]
        for role in list(get_backend("sts")[ACCOUNT][PARTITION].assumed_roles):
            if role.access_key_id == key_id:
                end = role.expiration.replace(tzinfo=UTC).timestamp()
                return Key(role.secret_access_key, role.session_token, end)
        found: AccessKey | None = get_backend("iam")[ACCOUNT][PARTITION].access_keys.get(key_id)
        if found is None or found.status != "Active" or found.user_name is None:
            return None
        return Key(found.secret_access_key)

    def session(self, answer: str) -> str:
        """STS's answer with a key of its own in place of the published example key."""
        key_id, secret = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)
        token = secrets.token_urlsafe(96)
        ends = re.search("<Expiration>(.*?)</Expiration>", answer)
        end = time.time() + 3600
        if ends is not None:
            moment = datetime.fromisoformat(ends[1])
            end = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        with self._lock:
            now = time.time()
            live = {name: key for name, key in self._sessions.items() if (key.end or now) >= now}
            self._sessions = live | {key_id: Key(secret, token, end)}
        for element, value in (
            ("AccessKeyId", key_id),
            ("SecretAccessKey", secret),
            ("SessionToken", token),
        ):
            answer = re.sub(
                f"<{element}>.*?</{element}>", f"<{element}>{value}</{element}>", answer
            )
        return answer
