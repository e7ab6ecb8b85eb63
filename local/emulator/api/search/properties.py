"""The properties of resources that Search supports, from the shapes of `SearchRecord`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from local.emulator.errors import invalid
from local.emulator.shapes.service_model import service_model

Sort = Literal["text", "number", "time", "truth", "loose", "list", "structure"]
"""The type of a property; `loose` is text that may be a number, such as a hyperparameter."""

SORTS: dict[str, Sort] = {
    "string": "text",
    "integer": "number",
    "long": "number",
    "float": "number",
    "double": "number",
    "timestamp": "time",
    "boolean": "truth",
    "list": "list",
    "map": "structure",
    "structure": "structure",
}
METRICS = "FinalMetricDataList"
"""The member that is searched as `Metrics.<name>`."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Property:
    """A property of a resource.

    Attributes:
        name: its name in the request.
        sort: its type.
        path: the members that lead to it; a list on the path stands for each of its items.
    """

    name: str
    sort: Sort
    path: tuple[str, ...]

    def values(self, record: Record) -> list[Any]:
        """The values in a record; empty if it has none."""
        if self.path[0] == "Tags" and len(self.path) == 2:
            return [one["Value"] for one in record.get("Tags", []) if one["Key"] == self.path[1]]
        if self.path[0] == "Metrics" and len(self.path) == 2:
            found = [one for one in record.get(METRICS, []) if one["MetricName"] == self.path[1]]
            return [one["Value"] for one in found if math.isfinite(one["Value"])]
        return list(_walk(record, self.path))


def find(shape_name: str, name: str, *, literally: bool = False) -> Property:
    """The property of that name.

    Args:
        shape_name: the shape of the resource, as in `SearchRecord`.
        name: its name, such as `TrainingJobStatus`, `Tags.team`, `HyperParameters.epochs`,
            `Metrics.loss` or `InputDataConfig.DataSource.S3DataSource.S3Uri`.
        literally: treat `Tags` as the list in the response, not as a map.

    Raises:
        ServiceError: the resource has no such property.
    """
    name = plain_name(shape_name, name)
    head, _, rest = name.partition(".")
    shape = service_model().shape_for(shape_name)
    if head == "Tags" and rest and not literally:
        return Property(name, "text", ("Tags", rest))
    if head == "Metrics" and rest and METRICS in shape.members:
        return Property(name, "number", ("Metrics", rest))
    path: list[str] = []
    left = name
    while True:
        while shape.type_name == "list":
            shape = shape.member
        if shape.type_name == "map":
            return Property(name, "loose", (*path, left))
        member, _, left = left.partition(".")
        if shape.type_name != "structure" or member not in shape.members:
            raise invalid(f"Unknown property name: {name}. {shape_name} has {_known(shape, path)}.")
        path.append(member)
        shape = shape.members[member]
        if not left:
            return Property(name, SORTS[shape.type_name], tuple(path))


def plain_name(shape_name: str, name: str) -> str:
    """A property's name without the prefix `Model.` that the model dashboard uses."""
    return name.removeprefix("Model.") if shape_name == "Model" else name


def suggestions(shape_name: str) -> Iterator[str]:
    """The names of a resource's properties that are not in a list."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), service_model().shape_for(shape_name))]
    while pending:
        path, shape = pending.pop()
        for name, member in sorted(shape.members.items()):
            if member.type_name == "structure":
                pending.append(((*path, name), member))
            elif member.type_name not in ("list", "map"):
                yield ".".join((*path, name))


def number_of(text: str, field: str) -> float:
    """Parse a number.

    Raises:
        ServiceError: it is not one.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise invalid(f"{field}: Value is '{text}'; expected a number.")
    return value


def moment_of(text: str, field: str) -> datetime:
    """Parse an ISO 8601 time; without an offset it is UTC.

    Raises:
        ServiceError: it is not one.
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(
            f"{field}: Value is '{text}'; expected a time such as 2026-01-31T23:59:59."
        ) from None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _known(shape: Any, path: list[str]) -> str:
    if shape.type_name != "structure":
        return f"nothing within {'.'.join(path)}"
    extra = "" if path else ", Tags.<key>, and of training jobs Metrics.<name>"
    return ", ".join(".".join((*path, name)) for name in shape.members if name != "Tags") + extra


def _walk(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _walk(each, path)
    elif not path:
        if value is not None:
            yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _walk(value[path[0]], path[1:])
