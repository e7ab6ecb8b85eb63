"""Build the image and report its size.

    python -m local.image build --tag berth:latest --weights resnet18
    python -m local.image build --target serve

Drives the `docker` command, so whatever engine it is set up for (a context, DOCKER_HOST) is used.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.platforms import AMD64, ARM64, DEFAULT, of_engine, of_image

ROOT = Path(__file__).resolve().parent.parent
IMAGES = {"full": "berth:latest", "serve": "berth:serve"}
"""What each target of the Dockerfile is named; `serve` serves on CPUs, without PyTorch."""
LISTING = "du -k -d1 /opt/venv/lib/python3*/site-packages"
"""Shell: the kilobytes of what is installed in the image, whichever Python that has."""
ACCEPTED_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
"""What a registry may hand SageMaker: one image in Docker's format, schema 2.

OCI's format, and an index (a list of images, which BuildKit makes as soon as it attaches a
provenance record), end CreateModel with "Unsupported manifest media type".
"""
ONE_DOCKER_IMAGE = ("--provenance=false", "--output", "type=docker,oci-mediatypes=false")
"""Options of BuildKit for such an image; an engine with containerd's store would keep OCI's."""


class ImageError(Exception):
    """Why an image could not be built or looked at, in one line a person can act on."""


@dataclass(frozen=True)
class Builder:
    """A docker client that can run BuildKit: `command` is what precedes a build's options."""

    docker: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class ImagePart:
    """A part of the image: what it is and its size in bytes."""

    name: str
    size: int


def serving_tag(tag: str) -> str:
    """The tag of the image that serves only, beside the tag of the one that trains."""
    return "serve" if tag == "latest" else f"{tag}-serve"


def manifest_problem(manifest: Mapping[str, object]) -> str | None:
    """Say why SageMaker would refuse an image with this manifest (or descriptor), or None.

    `manifest` is the JSON a registry serves for the tag, or the descriptor an engine shows for the
    image; only its `mediaType` is read, which Docker's format always has and OCI's may lack.
    """
    found = manifest.get("mediaType")
    if found == ACCEPTED_MANIFEST:
        return None
    return (
        f"manifest: found {found or 'no media type'}, expected one image in Docker's format "
        f"({ACCEPTED_MANIFEST}); build it as make build does, with: docker buildx build "
        f"{' '.join(ONE_DOCKER_IMAGE)}"
    )


def docker_clients(path: str | None = None) -> list[str]:
    """Return every `docker` on PATH, first found first."""
    folders = (path if path is not None else os.environ.get("PATH", "")).split(os.pathsep)
    found = (shutil.which("docker", path=folder) for folder in dict.fromkeys(folders) if folder)
    return [client for client in found if client]


def find_builder() -> Builder:
    """Choose the first docker client that can drive BuildKit, and make sure an engine answers.

    Raises ImageError when there is no client, no engine, or no client with BuildKit.
    """
    candidates = docker_clients()
    if not candidates:
        raise ImageError("docker: no such command on PATH; install Docker (Debian: docker.io)")
    _output([candidates[0], "version", "--format", "{{.Server.Version}}"], "docker engine")
    for docker in candidates:
        buildx = subprocess.run([docker, "buildx", "version"], capture_output=True, check=False)
        if buildx.returncode == 0:
            return Builder(docker, (docker, "buildx", "build", *ONE_DOCKER_IMAGE), {})
        # Clients before 23 carry BuildKit themselves; it makes one plain image, never an index.
        version = _output([docker, "version", "--format", "{{.Client.Version}}"], docker)
        if int(version.split(".")[0]) < 23:
            return Builder(docker, (docker, "build"), {"DOCKER_BUILDKIT": "1"})
    raise ImageError(
        f"{candidates[0]}: no buildx; install Docker's buildx plugin, then build again"
    )


def build_command(
    builder: Builder,
    *,
    tag: str,
    target: str = "full",
    platform: str = DEFAULT,
    base_image: str | None = None,
    extra_ca: Path | None = None,
    weights: Sequence[str] = (),
    torch_index_url: str | None = None,
    revision: str = "unknown",
    no_cache: bool = False,
) -> list[str]:
    """Return the whole build command; pure, so that it can be printed and tested.

    Raises ImageError for an option that the target does not have.
    """
    for option, given in (("--weights", weights), ("--torch-index-url", torch_index_url)):
        if given and target == "serve":
            raise ImageError(f"{option}: the target serve holds no PyTorch; leave it out")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    arguments = {"VERSION": project["version"], "REVISION": revision}
    if target == "full":
        arguments["WEIGHTS"] = " ".join(weights)
    if base_image:
        arguments["BASE_IMAGE"] = base_image
    if torch_index_url:
        arguments["TORCH_INDEX_URL"] = torch_index_url
    command = [*builder.command, "--platform", platform, "--target", target, "--tag", tag]
    command += ["--file", str(ROOT / "docker" / "Dockerfile")]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        if os.environ.get(name):
            command += ["--build-arg", name]
    if extra_ca:
        if not extra_ca.is_file():
            raise ImageError(f"--extra-ca {extra_ca}: no such file; expected a PEM file")
        command += ["--secret", f"id=extra_ca,src={extra_ca}"]
    if no_cache:
        command.append("--no-cache")
    return [*command, str(ROOT)]


def layers(docker: str, image: str) -> list[ImagePart]:
    """Return the image's layers, biggest first, each named by the command that made it."""
    columns = "{{.Size}}\t{{.CreatedBy}}"
    history = [docker, "history", "--no-trunc", "--human=false", "--format", columns, image]
    lines = _output(history, image).splitlines()
    pairs = (line.partition("\t") for line in lines)
    return _biggest(ImagePart(_layer_name(command), int(size)) for size, _, command in pairs)


def packages(docker: str, image: str) -> list[ImagePart]:
    """Return what lies in the image's site-packages, biggest first."""
    listing = _output([docker, "run", "--rm", "--network=none", image, "sh", "-c", LISTING], image)
    pairs = (line.partition("\t") for line in listing.splitlines())
    return _biggest(
        ImagePart(Path(path).name, int(size) * 1024)
        for size, _, path in pairs
        if Path(path).name != "site-packages"
    )


def report(docker: str, image: str) -> str:
    """Return the image's URI, id, size and what weighs most, as lines to print.

    Raises ImageError when the image is not there or SageMaker would refuse its manifest.
    """
    facts = json.loads(_output([docker, "image", "inspect", image], image))[0]
    # Only the containerd image store shows a descriptor; the classic store holds single images.
    problem = manifest_problem(facts["Descriptor"]) if facts.get("Descriptor") else None
    if problem:
        raise ImageError(f"{image}: {problem}")
    lines = [
        f"image     {image}",
        f"id        {facts['Id']}",
        f"platform  {of_image(facts) or 'unknown'}",
        f"size      {_size(facts['Size'])}",
    ]
    lines += [f"layer     {_size(part.size)}  {part.name}" for part in layers(docker, image)[:4]]
    lines += [f"packages  {_size(part.size)}  {part.name}" for part in packages(docker, image)[:6]]
    return "\n".join(lines)


def build(builder: Builder, command: Sequence[str], tag: str, platform: str = DEFAULT) -> None:
    """Run the build, its progress on this terminal, and drop the image that `tag` named before.

    Raises ImageError when the build fails; it names the emulator that an engine of another
    platform needs.
    """
    before = _image_id(builder.docker, tag)
    done = subprocess.run(command, env={**os.environ, **builder.environment}, check=False)
    if done.returncode:
        native = of_engine(
            json.loads(_output([builder.docker, "info", "-f", "{{json .}}"], "info"))
        )
        emulator = (
            f"; {platform} needs an emulator on this engine, which is {native} "
            "(Debian: qemu-user-static and binfmt-support; Docker Desktop has one)"
            if native != platform
            else ""
        )
        raise ImageError(
            f"{tag}: docker build failed with status {done.returncode}, see above{emulator}"
        )
    if before and before != _image_id(builder.docker, tag):
        # Refused, and rightly, while a container or another tag still uses it.
        subprocess.run([builder.docker, "rmi", before], capture_output=True, check=False)


def _image_id(docker: str, image: str) -> str | None:
    inspect = [docker, "image", "inspect", "--format", "{{.Id}}", image]
    found = subprocess.run(inspect, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _revision() -> str:
    """The commit that is built; `unknown` without git, or outside a checkout."""
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(
            ["git", "-C", str(ROOT), *describe], capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def _layer_name(command: str) -> str:
    command = re.sub(r"^(RUN )?(\|\d+ .*?)?/bin/sh -c\s+(#\(nop\)\s+)?", "", command)
    command = re.sub(r"\s*#\s*buildkit$|--mount=\S+", "", command)
    clauses = [" ".join(clause.split()) for clause in re.split(r"&&|;", command)]
    telling = next((clause for clause in clauses if " install " in clause), clauses[0])
    return telling[:90] or "the base image"


def _biggest(weights: Iterable[ImagePart]) -> list[ImagePart]:
    return sorted(weights, key=lambda weight: -weight.size)


def _size(size: int) -> str:
    return f"{size / 1e6:8,.0f} MB"


def _output(command: Sequence[str], subject: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ImageError(f"{subject}: {reason}")
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m local.image`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.image", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("build", help="build the image and report its size")
    verb.add_argument(
        "--target",
        default="full",
        choices=tuple(IMAGES),
        help="full, or serve: on CPUs only, without PyTorch (%(default)s)",
    )
    verb.add_argument(
        "--tag", help="the image's name (berth:latest, or berth:serve for the target serve)"
    )
    verb.add_argument(
        "--platform",
        default=DEFAULT,
        choices=(AMD64, ARM64),
        help="what it runs on (%(default)s, whatever this machine is)",
    )
    verb.add_argument(
        "--base-image", help="an image of Debian 13 or 12 (default: debian:trixie-slim)"
    )
    verb.add_argument(
        "--extra-ca", type=Path, help="PEM file of authorities to trust during the build only"
    )
    verb.add_argument(
        "--weights", nargs="*", default=[], help="torchvision architectures to bake weights of"
    )
    verb.add_argument("--torch-index-url", help="package index with another torch build")
    verb.add_argument("--no-cache", action="store_true", help="build every layer again")
    options = parser.parse_args(arguments)
    tag = options.tag or IMAGES[options.target]
    try:
        builder = find_builder()
        command = build_command(
            builder,
            tag=tag,
            target=options.target,
            platform=options.platform,
            base_image=options.base_image,
            extra_ca=options.extra_ca,
            weights=options.weights,
            torch_index_url=options.torch_index_url,
            revision=_revision(),
            no_cache=options.no_cache,
        )
        build(builder, command, tag, options.platform)
        print(report(builder.docker, tag))
    except ImageError as error:
        print(f"berth: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
