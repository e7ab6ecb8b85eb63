"""Who has which secret: the home's own key, and those that IAM and STS gave."""

from collections.abc import Callable
from dataclasses import dataclass, field

from local.emulator.credentials import Credentials


@dataclass(frozen=True)
class Key:
    """What is known of an access key.

    Attributes:
        secret: the secret access key.
        token: the session token that must come with it, None for a key without one.
        end: when the session ends, UTC seconds; None for a key without one.
    """

    secret: str = field(repr=False)
    token: str | None = None
    end: float | None = None


class Keys:
    """All access keys that may be used here; safe from any thread.

    Args:
        own: the home's.
        find_other: gives the key with an ID that is not the home's, if it may be used.
    """

    def __init__(self, own: Credentials, find_other: Callable[[str], Key | None]) -> None:
        self._own, self._find_other = own, find_other

    def find(self, key_id: str) -> Key | None:
        """The key with this ID, if it may be used."""
        if key_id == self._own.key_id:
            return Key(self._own.secret)
        return self._find_other(key_id)
