"""What a request that was kept changed, so that the journal holds no more than is needed."""

import json
from dataclasses import dataclass
from typing import Any, Protocol

from werkzeug.wrappers import Response

from local.emulator.aws import compaction
from local.emulator.aws.journal import Journal


class Change(Protocol):
    """What a request changed."""

    def settle(self, journal: Journal, number: int, response: Response) -> None:
        """Forget what the journal need not tell again after this request, which was granted."""


@dataclass(frozen=True)
class Action:
    """An operation of a service whose resources are not files.

    Attributes:
        place: where its names are told apart.
        operation: its name.
        members: the request's.
    """

    place: list[str]
    operation: str
    members: dict[str, Any]

    def settle(self, journal: Journal, number: int, response: Response) -> None:
        """See `Change`."""
        answer = response.get_data(as_text=True)
        journal.name(number, compaction.names_of(self.place, self.members, answer))
        subject = compaction.subject_of(self.place, self.operation, self.members)
        if subject is not None:
            journal.settle(number, subject)
        if self.operation in compaction.UNDONE and subject is not None:
            journal.unset(subject, number)
        deleted = compaction.deleted_by(self.place, self.operation, self.members)
        if deleted is not None:
            journal.forget(deleted, number)
        if self.operation in ("PutImage", "BatchDeleteImage"):
            self._settle_images(journal, number, answer)

    def _settle_images(self, journal: Journal, number: int, answer: str) -> None:
        digests, tags = compaction.images_of(self.place, self.members, answer)
        if self.operation == "PutImage":
            journal.name(number, digests | tags)
            return
        pushed = journal.named(digests, number)
        known = set().union(*pushed.values())
        tags_of_all = {name for name in known if json.loads(name)[2] == "imageTag"}
        by_digest = all("imageDigest" in one for one in self.members["imageIds"])
        # A tag that moved from one image to another, or an image that keeps a tag: all is needed.
        moved = journal.named(tags_of_all, number).keys() - pushed.keys()
        if pushed and not moved and (by_digest or tags_of_all <= tags):
            for name in digests:
                journal.forget(name, number)
            journal.remove(number)
