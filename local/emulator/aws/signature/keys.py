"""Access keys: the home's own, and those created by IAM and STS."""

from collections.abc import Callable
from dataclasses import dataclass, field

from local.emulator.credentials import Credentials


@dataclass(frozen=True)
class Key:
    """An access key.

    Attributes:
        secret: the secret access key.
        token: the session token that a request must include; None for a permanent key.
        end: when the session ends, UTC seconds; None for a permanent key.
    """

    secret: str = field(repr=False)
    token: str | None = None
    end: float | None = None


class Keys:
    """All valid access keys; thread-safe.

    Args:
        own: the home's key.
        find_other: returns the valid key with another ID; None if there is none.
    """

    def __init__(self, own: Credentials, find_other: Callable[[str], Key | None]) -> None:
        self._own, self._find_other = own, find_other

    def find(self, key_id: str) -> Key | None:
        """The valid key with this ID; None if there is none."""
        if key_id == self._own.key_id:
            return Key(self._own.secret)
        return self._find_other(key_id)
