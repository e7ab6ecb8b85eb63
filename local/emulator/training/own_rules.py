"""Rules of the user's own: files in S3 that a request's rule configurations name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.emulator.context import Objects
from local.emulator.location import Location
from local.emulator.training.channels import BadChannel
from local.emulator.training.rules import KINDS


def fetch_own_rules(objects: Objects, request: dict[str, Any], folder: Path) -> None:
    """Put the files of rules of the user's own into `folder`, `<RuleConfigurationName>.py` each.

    Copies, not links: nothing keeps a container from writing to them.

    Raises:
        BadChannel: one is not there.
        OSError: the disk is full.
    """
    for configuration, source in own_rules(request):
        place = Location.parse(source)
        name = configuration["RuleConfigurationName"]
        try:
            content = objects.read(place.bucket, place.key)
        except KeyError:
            raise BadChannel(f"rule {name}: there is no {source}") from None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_bytes(content)


def own_rules(request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The request's rule configurations whose rule is in a file of S3, with the file's URI."""
    for kind in KINDS:
        for configuration in request.get(kind.configurations, []):
            source = configuration.get("RuleParameters", {}).get("source_s3_uri")
            if source:
                yield configuration, source
