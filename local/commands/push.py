"""`berth push`: push the image to Amazon ECR, where SageMaker pulls it from.

    berth push --where aws
    berth push berth:mine --repository flowers --where aws

Without an argument it pushes berth:latest, and berth:serve if it was built.

SageMaker must accept the image: it has to be in Docker's format and for the platform of the
instances. Locally there is nothing to push: the local SageMaker runs the engine's images.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from local import platforms
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
from local.engine import NoEngine, connect
from local.errors import UserError
from local.image import IMAGES, serving_tag

if TYPE_CHECKING:
    from docker.client import DockerClient

_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


@with_common
def push(
    common: CommonOptions,
    image: Annotated[
        str | None,
        typer.Argument(
            help="an image of the local Docker engine "
            "(default: berth:latest, and berth:serve if it was built)"
        ),
    ] = None,
    repository: Annotated[
        str | None, typer.Option(help="repository (default: the image's name)")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="tag (default: the image's)")] = None,
    immutable: Annotated[
        bool, typer.Option("--immutable", help="make a new repository's tags immutable")
    ] = False,
    instance_type: Annotated[
        str | None,
        typer.Option(help="instance type that will run it, such as ml.c7g.xlarge (default: amd64)"),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="another registry; uses the engine's own login"),
    ] = None,
) -> None:
    """Push the image and print its URI by digest, for use as --image-uri."""
    name, own_tag = split(image or LOCAL_IMAGE)
    name, tag = repository or name, tag or own_tag
    _check_names(name, tag, instance_type)
    images = {image or LOCAL_IMAGE: tag}
    if image is None and _serving_image_fits(
        anywhere=common.where == "local" and not registry, instance_type=instance_type
    ):
        images[IMAGES["serve"]] = serving_tag(tag)
    console = Console()
    if registry:
        for each, its_tag in images.items():
            if common.plan:
                print_line(console, f"plan: would push {each} to {registry}/{name}:{its_tag}")
            else:
                login = Login(registry)
                print_line(console, to_registry(each, login, name, its_tag, instance_type))
        return
    target = common.connect(needs_role=False)
    if target.plan:
        plan.show(target, create_requests(name, immutable=immutable, tags=target.tags), console)
    for each, its_tag in images.items():
        if target.plan:
            uri = f"then {each} would be pushed to {name}:{its_tag}"
        elif target.where == "local":
            uri = keep_here(target, each, name, immutable=immutable)
        else:
            uri = to_ecr(
                target, each, name, its_tag, immutable=immutable, instance_type=instance_type
            )
        print_line(console, uri)


def _serving_image_fits(*, anywhere: bool, instance_type: str | None) -> bool:
    """Whether the engine has the serving image for the instance's platform, or `anywhere`.

    Prints a note if the image is for another platform.
    """
    image = IMAGES["serve"]
    try:
        with connect_engine() as engine:
            facts = _facts(engine, image)
    except EngineUnavailable:
        return False
    problem = platforms.problem(facts, instance_type) if facts and not anywhere else None
    if problem:
        line = f"{image} is skipped: {problem}; or push it separately: berth push {image}"
        print_line(Console(stderr=True), line)
    return facts is not None and problem is None


def to_registry(
    image: str, login: Login, repository: str, tag: str, instance_type: str | None = None
) -> str:
    """Push to any registry and return the URI by digest.

    Args:
        image: its name in the engine.
        login: the registry and the credentials.
        repository: the repository in the registry.
        tag: the tag in the repository.
        instance_type: the instance type that will run it; None for the default platform.

    Raises:
        UserError: there is no engine or no such image, SageMaker would reject the image, or the
            push failed.
    """
    uri = f"{login.host}/{repository}"
    with connect_engine() as engine:
        _require_usable(engine, image, instance_type)
        _send(engine, image, uri, tag, login)
        return f"{uri}@{registry_digest(engine, f'{uri}:{tag}', login.auth)}"


def to_ecr(
    target: Target,
    image: str,
    repository: str,
    tag: str,
    *,
    immutable: bool = False,
    instance_type: str | None = None,
) -> str:
    """Push to the account's ECR, creating the repository if needed; return the URI by digest.

    Raises:
        UserError: as in `to_registry`.
    """
    with connect_engine() as engine:
        _require_usable(engine, image, instance_type)
        ecr = target.client("ecr")
        uri, created = ensure_repository(ecr, repository, immutable=immutable, tags=target.tags)
        print_line(Console(stderr=True), f"repository {uri}{', created' if created else ''}")
        _send(engine, image, uri, tag, log_in(ecr))
        return f"{uri}@{ecr_digest(ecr, repository, tag)}"


def keep_here(target: Target, image: str, repository: str, *, immutable: bool = False) -> str:
    """Create the repository in the local ECR and return the image's own name, which runs locally.

    Raises:
        UserError: there is an engine, but it does not have the image.
    """
    notes = Console(stderr=True)
    try:
        with connect_engine() as engine:
            _require(engine, image)
    except EngineUnavailable:
        print_line(notes, "no Docker engine found: the local SageMaker runs plain processes")
    ecr = target.client("ecr")
    uri, created = ensure_repository(ecr, repository, immutable=immutable, tags=target.tags)
    print_line(notes, f"repository {uri}{', created' if created else ''}")
    print_line(notes, "nothing to push: the local SageMaker runs the engine's image by its name")
    return image


def split(image: str) -> tuple[str, str]:
    """An image's name without its registry, and its tag: ("berth", "latest").

    Raises:
        UserError: it is a reference by digest, which cannot be pushed.
    """
    if "@" in image:
        raise UserError(f"{image}: found a digest, expected a name with a tag")
    first, slash, rest = image.partition("/")
    path = rest if slash and ("." in first or ":" in first or first == "localhost") else image
    name, _, tag = path.partition(":")
    return name, tag or "latest"


class EngineUnavailable(UserError):
    """No Docker engine is reachable."""


@contextmanager
def connect_engine() -> Iterator["DockerClient"]:
    """A connection to the Docker engine.

    Raises:
        EngineUnavailable: no engine is reachable.
    """
    try:
        engine = connect(timeout=600)
    except NoEngine as error:
        raise EngineUnavailable(f"{error}; start one, or point DOCKER_HOST at one") from None
    try:
        yield engine
    finally:
        engine.close()


def _check_names(repository: str, tag: str, instance_type: str | None) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(
            f"--repository: found {repository!r}, expected lower-case words joined by - _ . or /"
        )
    if not _TAG.fullmatch(tag):
        raise UserError(f"--tag: found {tag!r}, expected up to 128 letters, digits, _ . and -")
    if instance_type is not None and not platforms.is_instance_type(instance_type):
        raise UserError(
            f"--instance-type: found {instance_type!r}, expected a type such as ml.m5.large"
        )


def _facts(engine: "DockerClient", image: str) -> dict[str, Any] | None:
    """The engine's description of an image; None if it has no such image."""
    from docker.errors import ImageNotFound

    try:
        return dict(engine.images.get(image).attrs)
    except ImageNotFound:
        return None


def _require(engine: "DockerClient", image: str) -> dict[str, Any]:
    """The engine's description of an image; a UserError if it has no such image."""
    facts = _facts(engine, image)
    if facts is None:
        command = "make build TARGET=serve" if image == IMAGES["serve"] else "make build"
        raise UserError(f"{image}: the engine has no such image; build it with: {command}")
    return facts


def _require_usable(engine: "DockerClient", image: str, instance_type: str | None) -> None:
    """Check that SageMaker's instances could run an image, as far as the engine can tell."""
    facts = _require(engine, image)
    # Only the containerd image store shows a descriptor; the classic store holds single images in
    # Docker's format.
    if facts.get("Descriptor"):
        check(image, facts["Descriptor"])
    problem = platforms.problem(facts, instance_type)
    if problem:
        raise UserError(f"{image}: {problem}")


def _send(engine: "DockerClient", image: str, uri: str, tag: str, login: Login) -> None:
    if not engine.images.get(image).tag(uri, tag):
        raise UserError(f"{uri}:{tag}: the engine could not tag {image}")
    lines = engine.api.push(uri, tag, stream=True, decode=True, auth_config=login.auth)
    follow(lines, f"{uri}:{tag}")


def follow(lines: Iterable[dict[str, Any]], name: str) -> None:
    """Show the progress of a push on stderr.

    Raises:
        UserError: the push failed; the message is the engine's.
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
