"""Lists of resources: the filters, orders and pages every List operation offers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.emulator.api.operations.answering import Answer, Request
from local.emulator.api.pagination import Key, page
from local.emulator.context import Context
from local.emulator.store import Kind, Record


@dataclass(frozen=True)
class Listing:
    """One List operation.

    Attributes:
        kind: what it lists.
        prefix: what the names of the resource's members begin with, e.g. `TrainingJob`.
        items: the answer's member that holds the list.
        members: members of Describe's answer that a summary repeats.
        more: what a summary holds besides.
        order: the order of a request that names none.
        descending: whether that request gets the greatest first.
    """

    kind: Kind
    prefix: str
    items: str
    members: tuple[str, ...]
    more: Callable[[Record], dict[str, Any]] | None = None
    order: str = "CreationTime"
    descending: bool = True

    def __call__(self, context: Context, request: Request) -> Answer:
        """Answer the operation."""
        return self.answer(request, context.store.every(self.kind))

    def answer(self, request: Request, records: Iterable[Record]) -> Answer:
        """A page of those records that the request asks for."""
        chosen, token = page(
            [record for record in records if self._wanted(record, request)],
            request,
            lambda record: self.key(record, request.get("SortBy", self.order)),
            descending=self.is_descending(request),
        )
        return {self.items: [self.summary(record) for record in chosen], "NextToken": token}

    def is_descending(self, request: Request) -> bool:
        """Whether the request wants the greatest first."""
        order = request.get("SortOrder")
        return self.descending if order is None else bool(order == "Descending")

    def summary(self, record: Record) -> dict[str, Any]:
        """What the list says about one resource."""
        own = {name: record.body[name] for name in self.members if name in record.body}
        return own | (self.more(record) if self.more else {})

    def key(self, record: Record, order: str) -> Key:
        """What the resource is ordered by."""
        if order == "Name":
            return record.name, record.name
        if order == "Status":
            return record.body[f"{self.prefix}Status"], record.name
        return _created(record).timestamp(), record.name

    def _wanted(self, record: Record, request: Request) -> bool:
        if request.get("NameContains", "") not in record.name:
            return False
        status = request.get("StatusEquals")
        if status is not None and record.body[f"{self.prefix}Status"] != status:
            return False
        for member, moment in (("Creation", _created(record)), ("LastModified", record.modified)):
            after, before = request.get(f"{member}TimeAfter"), request.get(f"{member}TimeBefore")
            if (after and moment <= after) or (before and moment >= before):
                return False
        return True


def _created(record: Record) -> datetime:
    created: datetime = record.body.get("CreationTime", record.created)
    return created
