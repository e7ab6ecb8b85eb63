"""Rules of the user's own: files in S3 that a request's rule configurations name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.emulator.location import Location
from local.emulator.ports import Objects
from local.emulator.training.channels import BadChannel
from local.emulator.training.rules import KINDS


def fetch_own_rules(objects: Objects, request: dict[str, Any], folder: Path) -> None:
    """Put the files of rules of the user's own into `folder`, named as in S3.

    Copies, not links: nothing keeps a container from writing to them.

    Raises:
        BadChannel: one is not there.
        OSError: the disk is full.
    """
    for configuration, source in own_rules(request):
        place = Location.parse(source)
        try:
            content = objects.read(place.bucket, place.key)
        except KeyError:
            name = configuration["RuleConfigurationName"]
            raise BadChannel(f"rule {name}: there is no {source}") from None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file_name(source)).write_bytes(content)


def file_name(source: str) -> str:
    """What a rule's file is called before the container, by its URI: the last part of the key."""
    return source.rpartition("/")[2]


def own_rules(request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The request's rule configurations whose rule is in a file of S3, with the file's URI."""
    for kind in KINDS:
        for configuration in request.get(kind.configurations, []):
            source = configuration.get("RuleParameters", {}).get("source_s3_uri")
            if source:
                yield configuration, source
