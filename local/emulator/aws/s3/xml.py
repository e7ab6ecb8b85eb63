"""The XML of S3's requests and responses."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

from local.emulator.errors import ServiceError

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
CONTENT_TYPE = "application/xml"
OWNER = "<Owner><ID>local</ID><DisplayName>local</DisplayName></Owner>"


def element(name: str, value: object) -> str:
    """An element with text; empty if the value is None."""
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else escape(str(value))
    return f"<{name}>{text}</{name}>"


def elements(values: Mapping[str, object]) -> str:
    """Elements with texts, in this order, without those whose value is None."""
    return "".join(element(name, value) for name, value in values.items())


def document(root: str, *content: str) -> Response:
    """The response with this root element; `content` is XML."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{NAMESPACE}">'
    return Response(f"{text}{''.join(content)}</{root}>", content_type=CONTENT_TYPE)


def timestamp(seconds: float) -> str:
    """Format UTC seconds as S3 does, without fractions."""
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def parse(body: bytes) -> ElementTree.Element:
    """Parse a request's body, and remove namespaces from element names.

    Raises:
        ServiceError: MalformedXML.
    """
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - expat limits what entities expand to
    except ElementTree.ParseError:
        raise malformed() from None
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
    return root


def texts(node: ElementTree.Element, path: str) -> list[str]:
    """The texts of all elements at a path."""
    return [found.text or "" for found in node.findall(path)]


def tag_set(root: ElementTree.Element) -> dict[str, str]:
    """The tags of a `Tagging` document."""
    return {
        tag.findtext("Key", ""): tag.findtext("Value", "") for tag in root.findall("TagSet/Tag")
    }


def tagging(tags: Mapping[str, Any]) -> Response:
    """The `Tagging` document of these tags."""
    return document("Tagging", "<TagSet>", *_tags(tags.items()), "</TagSet>")


def malformed() -> ServiceError:
    """The error for a body that is not the operation's XML."""
    return ServiceError(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )


def _tags(tags: Iterable[tuple[str, Any]]) -> Iterable[str]:
    return (f"<Tag>{elements({'Key': key, 'Value': value})}</Tag>" for key, value in tags)
