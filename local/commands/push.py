"""The image to a registry that SageMaker pulls from: Amazon ECR.

    berth push --where aws
    berth push berth:mine --repository flowers --where aws

On this machine nothing needs to be pushed: the local SageMaker runs what the engine holds.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from local.client import plan
from local.client.console import print_line
from local.client.registry import (
    Login,
    check,
    create_requests,
    ecr_digest,
    ensure_repository,
    log_in,
    registry_digest,
)
from local.client.target import LOCAL_IMAGE, Target
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError

if TYPE_CHECKING:
    from docker.client import DockerClient

_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


@with_common
def push(
    common: CommonOptions,
    image: Annotated[
        str, typer.Argument(help="the image, as the engine on this machine names it")
    ] = LOCAL_IMAGE,
    repository: Annotated[
        str | None, typer.Option(help="repository (default: the image's name)")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="tag (default: the image's)")] = None,
    immutable: Annotated[
        bool, typer.Option("--immutable", help="a new repository's tags never move")
    ] = False,
    registry: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="another registry, with the engine's own login"),
    ] = None,
) -> None:
    """Push the image and print its URI by digest; SageMaker would take what is printed."""
    console = Console()
    name, own_tag = split(image)
    name, tag = repository or name, tag or own_tag
    _check_names(name, tag)
    if registry:
        if common.plan:
            print_line(console, f"plan: would push {image} to {registry}/{name}:{tag}")
            return
        print_line(console, to_registry(image, Login(registry), name, tag))
        return
    target = common.connect(needs_role=False)
    if target.plan:
        plan.show(target, create_requests(name, immutable=immutable, tags=target.tags), console)
        print_line(console, f"then {image} would be pushed to {name}:{tag}")
    elif target.where == "local":
        print_line(console, keep_here(target, image, name, immutable=immutable))
    else:
        print_line(console, to_ecr(target, image, name, tag, immutable=immutable))


def to_registry(image: str, login: Login, repository: str, tag: str) -> str:
    """Push to any registry; the URI by the digest that registry has.

    Raises:
        UserError: no engine, no such image, a failed push, or a manifest SageMaker would refuse.
    """
    uri = f"{login.host}/{repository}"
    with connect_engine() as engine:
        _require(engine, image)
        _send(engine, image, uri, tag, login)
        return f"{uri}@{registry_digest(engine, f'{uri}:{tag}', login.auth)}"


def to_ecr(
    target: Target, image: str, repository: str, tag: str, *, immutable: bool = False
) -> str:
    """Push to the account's ECR, the repository made when missing; the URI by ECR's digest.

    Raises:
        UserError: as `to_registry`.
    """
    with connect_engine() as engine:
        _require(engine, image)
        ecr = target.client("ecr")
        uri, made = ensure_repository(ecr, repository, immutable=immutable, tags=target.tags)
        print_line(Console(stderr=True), f"repository {uri}{', made' if made else ''}")
        _send(engine, image, uri, tag, log_in(ecr))
        return f"{uri}@{ecr_digest(ecr, repository, tag)}"


def keep_here(target: Target, image: str, repository: str, *, immutable: bool = False) -> str:
    """The image's own name, by which the local SageMaker runs it; its ECR gets the repository.

    Raises:
        UserError: an engine answers and does not have the image.
    """
    notes = Console(stderr=True)
    try:
        with connect_engine() as engine:
            _require(engine, image)
    except EngineUnavailable:
        print_line(notes, "no Docker engine answers: plain processes stand for the image here")
    ecr = target.client("ecr")
    uri, made = ensure_repository(ecr, repository, immutable=immutable, tags=target.tags)
    print_line(notes, f"repository {uri}{', made' if made else ''}")
    print_line(
        notes, "nothing to push: the local SageMaker runs what is on this machine, by its name"
    )
    return image


def split(image: str) -> tuple[str, str]:
    """An image's name without its registry, and its tag: ("berth", "latest").

    Raises:
        UserError: it is named by digest, which cannot be pushed.
    """
    if "@" in image:
        raise UserError(f"{image}: named by digest; name the image to push by a tag")
    first, slash, rest = image.partition("/")
    path = rest if slash and ("." in first or ":" in first or first == "localhost") else image
    name, _, tag = path.partition(":")
    return name, tag or "latest"


class EngineUnavailable(UserError):
    """No Docker engine answers."""


@contextmanager
def connect_engine() -> Iterator["DockerClient"]:
    """The engine on this machine.

    Raises:
        EngineUnavailable: none answers.
    """
    from docker.client import DockerClient
    from docker.errors import DockerException

    try:
        engine = DockerClient.from_env(timeout=600)
    except DockerException:
        raise EngineUnavailable(
            "docker: no engine answers; start one, or point DOCKER_HOST at one"
        ) from None
    try:
        yield engine
    finally:
        engine.close()


def _check_names(repository: str, tag: str) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(
            f"--repository: found {repository!r}, expected lower-case words joined by - _ . or /"
        )
    if not _TAG.fullmatch(tag):
        raise UserError(f"--tag: found {tag!r}, expected up to 128 letters, digits, _ . and -")


def _require(engine: "DockerClient", image: str) -> None:
    """Make sure the engine has the image, and that SageMaker would take it where that shows."""
    from docker.errors import ImageNotFound

    try:
        facts = engine.images.get(image).attrs
    except ImageNotFound:
        raise UserError(
            f"{image}: the engine has no such image; make it with: make build"
        ) from None
    # Only the containerd image store shows a descriptor; the classic store holds single images.
    if facts.get("Descriptor"):
        check(image, facts["Descriptor"])


def _send(engine: "DockerClient", image: str, uri: str, tag: str, login: Login) -> None:
    if not engine.images.get(image).tag(uri, tag):
        raise UserError(f"{uri}:{tag}: the engine would not name {image} so")
    lines = engine.api.push(uri, tag, stream=True, decode=True, auth_config=login.auth)
    follow(lines, f"{uri}:{tag}")


def follow(lines: Iterable[dict[str, Any]], name: str) -> None:
    """Show an engine's report of a push on stderr, until it ends.

    Raises:
        UserError: the push failed; the engine's own words.
    """
    console = Console(stderr=True)
    layers: dict[str, Any] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        for line in lines:
            if "error" in line:
                raise UserError(f"{name}: {line['error']}")
            layer, detail = line.get("id"), line.get("progressDetail") or {}
            if not layer or "total" not in detail:
                if layer and line.get("status") == "Pushed" and not console.is_terminal:
                    console.print(f"{layer}: pushed", highlight=False)
                continue
            if layer not in layers:
                layers[layer] = bar.add_task(layer, total=detail["total"])
            bar.update(layers[layer], completed=detail.get("current", 0), total=detail["total"])
