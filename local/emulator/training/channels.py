"""The files of a channel, from S3 or a local folder, and their distribution among hosts."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from local.emulator.copies import copy
from local.emulator.file_names import ignores_case
from local.emulator.ports import Objects
from local.emulator.training.opt_ml import Host
from local.s3_location import BadLocation, Location


class BadChannel(Exception):
    """A channel's data is missing or invalid; the message is one line that names the channel."""


@dataclass(frozen=True)
class ChannelFile:
    """One file of a channel.

    Attributes:
        name: its path in the channel's folder, with slashes.
        source: the S3 object or the local file.
    """

    name: str
    source: Location | Path


def lay_out(
    objects: Objects, channel: dict[str, Any], host: Host, hosts: list[Host], folder: Path
) -> int:
    """Copy a host's share of a channel to `folder`, and return the number of files.

    Files are not linked, because a process that runs as root could write to them.

    Raises:
        BadChannel: there is no data, or a key is not a valid path.
        OSError: the disk is full, or a file cannot be read.
    """
    name = channel["ChannelName"]
    try:
        entries = sorted(_entries(objects, channel), key=lambda entry: entry.name)
    except BadLocation as error:
        raise BadChannel(f"channel {name}: S3Uri: {error}") from None
    except BadChannel as error:
        raise BadChannel(f"channel {name}: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    mine = entries[_share(channel, host, hosts)]
    made = set()
    for entry in mine:
        path = folder / entry.name
        above = entry.name.rpartition("/")[0]
        try:
            if above not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(above)
            if isinstance(entry.source, Path):
                copy(entry.source, path)
            else:
                objects.copy(entry.source.bucket, entry.source.key, path)
        except KeyError as error:
            raise BadChannel(f"channel {name}: {error.args[0]}") from None
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            conflict = "a file and a folder of the same name"
            if ignores_case(folder):
                conflict += ", or names that only differ in case"
            raise BadChannel(
                f"channel {name}: {entry.name}: the objects need {conflict}; rename one of them"
            ) from None
    return len(mine)


def _share(channel: dict[str, Any], host: Host, hosts: list[Host]) -> slice:
    """The entries of a channel that a host gets: all, none, or every n-th."""
    source = channel["DataSource"].get("S3DataSource", {})
    groups = source.get("InstanceGroupNames")
    peers = [peer for peer in hosts if not groups or peer.group in groups]
    if host not in peers:
        return slice(0, 0)
    if source.get("S3DataDistributionType") == "ShardedByS3Key":
        return slice(peers.index(host), None, len(peers))
    return slice(None)


def _entries(objects: Objects, channel: dict[str, Any]) -> Iterator[ChannelFile]:
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise BadChannel("DataSource: expected S3DataSource; others are not supported locally")
    kind, uri = source["S3DataType"], source["S3Uri"]
    if urlparse(uri).scheme == "file" and kind == "S3Prefix":
        return _files(uri)
    if kind == "S3Prefix":
        return _objects(objects, Location.parse(uri))
    if kind == "ManifestFile":
        return _manifest(objects, uri)
    raise BadChannel(
        f"S3DataType: found {kind}, expected S3Prefix or ManifestFile; others are not supported "
        "locally"
    )


def _objects(objects: Objects, prefix: Location) -> Iterator[ChannelFile]:
    """Every object whose key starts with the prefix, except placeholders of folders.

    If the prefix is a folder, with or without its last slash, a file's path is relative to it; or
    else to the part of the prefix up to its last slash.
    """
    found = objects.keys(prefix.bucket, prefix.key)
    if not found:
        raise BadChannel(_nothing_at(prefix, objects))
    folder = prefix.key if prefix.key.endswith("/") or not prefix.key else f"{prefix.key}/"
    above = prefix.key[: prefix.key.rfind("/") + 1]
    for stored in found:
        if not stored.key.endswith("/"):
            start = folder if stored.key.startswith(folder) else above
            name = stored.key[len(start) :]
            yield ChannelFile(_safe(name, stored.key), Location(prefix.bucket, stored.key))


def _manifest(objects: Objects, uri: str) -> Iterator[ChannelFile]:
    """The objects in a manifest: `[{"prefix": "s3://bucket/some/"}, "a", "b", …]`."""
    place = Location.parse(uri)
    try:
        listed = json.loads(objects.read(place.bucket, place.key))
        prefix, *suffixes = listed
        base = Location.parse(prefix["prefix"])
    except KeyError:
        raise BadChannel(_nothing_at(place, objects)) from None
    except (ValueError, TypeError):
        raise BadChannel(
            f'{uri} is not a manifest: expected JSON, [{{"prefix": "s3://bucket/some/"}}, "key", …]'
        ) from None
    there = {stored.key for stored in objects.keys(base.bucket, base.key)}
    for suffix in suffixes:
        if not isinstance(suffix, str):
            raise BadChannel(f"{uri}: found {suffix!r}, expected a key as a string")
        key = base.key + suffix
        if key not in there:
            raise BadChannel(_nothing_at(Location(base.bucket, key), objects))
        yield ChannelFile(_safe(suffix, key), Location(base.bucket, key))


def _files(uri: str) -> Iterator[ChannelFile]:
    """Every file below a local folder, or a single file."""
    parsed = urlparse(uri)
    root = Path(unquote(parsed.path))
    if parsed.netloc not in {"", "localhost"} or not root.is_absolute():
        raise BadChannel(f"S3Uri: found {uri!r}, expected file:///path/to/folder")
    if root.is_file():
        yield ChannelFile(root.name, root)
        return
    if not root.is_dir():
        raise BadChannel(f"no such file or folder: {root}")
    empty = True
    for folder, folders, names in os.walk(root, followlinks=True):
        if _leads_back(Path(folder), root):
            folders.clear()
            continue
        above = Path(folder).relative_to(root).as_posix()
        for name in names:
            empty = False
            path = Path(folder, name)
            if not path.is_file():
                raise BadChannel(f"{path} is not a regular file, but a device or a broken link")
            yield ChannelFile(name if above == "." else f"{above}/{name}", path)
    if empty:
        raise BadChannel(f"the folder {root} has no files")


def _leads_back(folder: Path, root: Path) -> bool:
    """Whether a folder is a link to one of its parents, which would be an endless loop."""
    real = folder.resolve()
    above = [parent for parent in folder.parents if parent.is_relative_to(root)]
    return any(parent.resolve() == real for parent in above)


def _safe(name: str, key: str) -> str:
    """An object's path in its channel, which is never outside of it."""
    parts = [part for part in name.split("/") if part]
    if not parts or "." in parts or ".." in parts or "\0" in name:
        raise BadChannel(f"the object {key!r} cannot be a file: its key is not a valid path")
    if len(name) > 63 and any(len(part.encode()) > 255 for part in parts):  # a character has 1 to 4
        raise BadChannel(
            f"the object {key[:80]!r}… cannot be a file: a part of its key has over 255 bytes"
        )
    return "/".join(parts)


def _nothing_at(place: Location, objects: Objects) -> str:
    if not objects.bucket_exists(place.bucket):
        return f"no such bucket: {place.bucket} ({place})"
    return f"no S3 objects found under {place}"
