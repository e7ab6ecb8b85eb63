"""Restores the creation dates of moto's resources from the requests that created them.

moto uses the time at which it receives a request, so a replayed request would create resources with
the current date. A resource is identified by its ID, which is the same after each replay.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from werkzeug.wrappers import Response

IDENTITIES = (
    "RoleId",
    "UserId",
    "GroupId",
    "PolicyId",
    "InstanceProfileId",
    "AccessKeyId",
    "ServerCertificateId",
    "CertificateId",
    "SSHPublicKeyId",
    "SerialNumber",
    "imageDigest",
    "repositoryArn",
)
DATES = ("CreateDate", "UploadDate", "EnableDate", "createdAt", "imagePushedAt")
Identity = tuple[str, str, str]
"""The name and the value of the ID, and the repository of an image."""
Record = tuple[Identity, Callable[[float], None]]
"""A resource in a response, and a function that writes a date (UTC seconds) into it."""


class Dates:
    """The creation dates of resources."""

    def __init__(self) -> None:
        self._known: dict[Identity, float] = {}

    def note(self, response: Response, time: float, *, created: bool) -> None:
        """Store a request's time as the creation date of the resources in its response.

        Args:
            response: the response.
            time: the request's time, UTC seconds.
            created: whether the resources are new; otherwise known ones keep their date.
        """
        for identity, _ in _records(_parse(response)):
            if created or identity not in self._known:
                self._known[identity] = time

    def restore(self, response: Response) -> None:
        """Write the known dates into a response."""
        root = _parse(response)
        found = [record for record in _records(root) if record[0] in self._known]
        for identity, write in found:
            write(self._known[identity])
        if found:
            response.set_data(_text(root))


def _parse(response: Response) -> Any:
    """Parse a JSON or XML response; None for CBOR, which has none of these resources."""
    data = response.get_data()
    if data.startswith(b"{"):
        return json.loads(data)
    return ElementTree.fromstring(data) if data.startswith(b"<") else None  # noqa: S314 - moto's


def _text(root: Any) -> str:
    if isinstance(root, dict):
        return json.dumps(root)
    namespace = root.tag[1:].partition("}")[0]
    return ElementTree.tostring(root, encoding="unicode", default_namespace=namespace)


def _records(root: Any) -> Iterator[Record]:
    if isinstance(root, ElementTree.Element):
        for node in root.iter():
            yield from _record_of_element(node)
    else:
        yield from _records_of_json(root, "")


def _record_of_element(node: ElementTree.Element) -> Iterator[Record]:
    children = {child.tag.rpartition("}")[2]: child for child in node}
    identity = next((name for name in IDENTITIES if name in children), None)
    if identity is None:
        return

    def write(time: float) -> None:
        for name in children.keys() & set(DATES):
            moment = datetime.fromtimestamp(time, UTC).replace(tzinfo=None)
            children[name].text = f"{moment.isoformat()}Z"

    yield (identity, children[identity].text or "", ""), write


def _records_of_json(value: Any, repository: str) -> Iterator[Record]:
    if isinstance(value, list):
        for item in value:
            yield from _records_of_json(item, repository)
    if not isinstance(value, dict):
        return
    node: dict[str, Any] = value
    repository = node.get("repositoryName", repository)
    identity = next((name for name in IDENTITIES if isinstance(node.get(name), str)), None)

    def write(time: float) -> None:
        for name in node.keys() & set(DATES):
            node[name] = round(time, 3)

    if identity is not None:
        yield (identity, node[identity], repository), write
    for item in node.values():
        yield from _records_of_json(item, repository)
