"""Custom rules: files in S3 that a request's rule configurations specify."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.emulator.ports import Objects
from local.emulator.training.channels import BadChannel
from local.emulator.training.rules import KINDS
from local.s3_location import Location


def fetch_own_rules(objects: Objects, request: dict[str, Any], folder: Path) -> None:
    """Copy the files of custom rules to `folder`.

    They are not linked, because a container could write to them.

    Raises:
        BadChannel: a file does not exist.
        OSError: the disk is full.
    """
    for configuration, source in own_rules(request):
        place = Location.parse(source)
        try:
            content = objects.read(place.bucket, place.key)
        except KeyError:
            name = configuration["RuleConfigurationName"]
            raise BadChannel(f"rule {name}: no such object: {source}") from None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file_name(source)).write_bytes(content)


def file_name(source: str) -> str:
    """The name of a rule's file in the container: the last part of its URI."""
    return source.rpartition("/")[2]


def own_rules(request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The request's rule configurations with a custom rule, and the URI of the rule's file."""
    for kind in KINDS:
        for configuration in request.get(kind.configurations, []):
            source = configuration.get("RuleParameters", {}).get("source_s3_uri")
            if source:
                yield configuration, source
