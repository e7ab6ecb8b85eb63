"""Change of ownership of the files that a container wrote as root."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import requests
from docker.errors import DockerException
from docker.types import Mount

_SCRIPT = """
import os, sys
owner, top = [int(part) for part in sys.argv[1].split(":")], sys.argv[2]
for folder, folders, files in os.walk(top):
    for name in [".", *folders, *files]:
        os.chown(os.path.join(folder, name), *owner, follow_symlinks=False)
"""
"""`chown -hR`, for an image with Python but without chown."""

_log = logging.getLogger(__name__)


def change_owner(
    client: Any,
    image: str,
    folder: Path,
    owner: tuple[int, int],
    labels: dict[str, str],
    security: Iterable[str] = (),
) -> None:
    """Make `owner` own everything in `folder`, unless it already does.

    A short-lived container of the image does it as root, without a network. A failure is logged,
    not raised.

    Args:
        client: the engine's client.
        image: an image that the engine has.
        folder: a local folder.
        owner: uid and gid on this machine.
        labels: labels of the container.
        security: the engine's SecurityOptions. In a rootless engine the owner is root in
            containers; with `userns-remap`, the engine maps user ids.
    """
    if not _others_own(folder, owner[0]):
        return
    names = {option.removeprefix("name=").partition(",")[0] for option in security}
    inside = (0, 0) if "rootless" in names else owner
    mapping = {"userns_mode": "host"} if "userns" in names else {}
    arguments = [f"{inside[0]}:{inside[1]}", "/handed"]
    tried = []
    for words in (["chown", "-hR"], ["python3", "-c", _SCRIPT], ["python", "-c", _SCRIPT]):
        try:
            client.containers.run(
                image,
                [*words[1:], *arguments],
                entrypoint=words[:1],
                mounts=[Mount("/handed", str(folder), type="bind")],
                user="0:0",
                labels=labels,
                network_mode="none",
                remove=True,
                **mapping,
            )
            return
        except (DockerException, requests.RequestException, OSError) as error:
            tried.append(f"{words[0]}: {error}")
    _log.warning("files in %s belong to another user: %s", folder, "; ".join(tried))


def _others_own(folder: Path, uid: int) -> bool:
    """Whether the folder or anything in it belongs to another user or is not readable."""
    try:
        if folder.lstat().st_uid != uid:
            return True
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_uid != uid:
                    return True
                if entry.is_dir(follow_symlinks=False) and _others_own(Path(entry), uid):
                    return True
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
