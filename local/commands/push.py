"""The image to a registry that SageMaker pulls from: Amazon ECR.

    berth push --where aws
    berth push berth:mine --repository flowers --where aws

Without a name berth:latest is pushed, and berth:serve too where it was built.

The image must be one that SageMaker takes: in Docker's format, and for the processors of the
instances it is for. On this machine nothing needs to be pushed: the local SageMaker runs what the
engine holds.
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
            help="the image, as the engine on this machine names it "
            "(default: berth:latest, and berth:serve where it was built)"
        ),
    ] = None,
    repository: Annotated[
        str | None, typer.Option(help="repository (default: the image's name)")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="tag (default: the image's)")] = None,
    immutable: Annotated[
        bool, typer.Option("--immutable", help="a new repository's tags never move")
    ] = False,
    instance_type: Annotated[
        str | None,
        typer.Option(help="that will run it, such as ml.c7g.xlarge (default: any with amd64)"),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="another registry, with the engine's own login"),
    ] = None,
) -> None:
    """Push the image and print its URI by digest; SageMaker would take what is printed."""
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
    """Whether the engine has the image that serves only, for the instances or `anywhere`.

    A note says so where it is of another platform.
    """
    image = IMAGES["serve"]
    try:
        with connect_engine() as engine:
            facts = _facts(engine, image)
    except EngineUnavailable:
        return False
    problem = platforms.problem(facts, instance_type) if facts and not anywhere else None
    if problem:
        line = f"{image} is left out: {problem}; or push it alone: berth push {image}"
        print_line(Console(stderr=True), line)
    return facts is not None and problem is None


def to_registry(
    image: str, login: Login, repository: str, tag: str, instance_type: str | None = None
) -> str:
    """Push to any registry; the URI by the digest that registry has.

    Args:
        image: as the engine names it.
        login: the registry, and who pushes.
        repository: where to in it.
        tag: the tag there.
        instance_type: of SageMaker's, that will run it; None for any with amd64.

    Raises:
        UserError: no engine, no such image, an image SageMaker would refuse, or a failed push.
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
    """Push to the account's ECR, the repository made when missing; the URI by ECR's digest.

    Raises:
        UserError: as `to_registry`.
    """
    with connect_engine() as engine:
        _require_usable(engine, image, instance_type)
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
    """What the engine shows of an image; None where it has no such image."""
    from docker.errors import ImageNotFound

    try:
        return dict(engine.images.get(image).attrs)
    except ImageNotFound:
        return None


def _require(engine: "DockerClient", image: str) -> dict[str, Any]:
    """What the engine shows of an image, which it must have."""
    facts = _facts(engine, image)
    if facts is None:
        make = "make build TARGET=serve" if image == IMAGES["serve"] else "make build"
        raise UserError(f"{image}: the engine has no such image; make it with: {make}")
    return facts


def _require_usable(engine: "DockerClient", image: str, instance_type: str | None) -> None:
    """Make sure that SageMaker's instances could run an image, as far as the engine shows it."""
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
