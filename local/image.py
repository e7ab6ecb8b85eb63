"""Build the image and report its size.

    python -m local.image build --tag berth:latest --weights resnet18
    python -m local.image build --target serve

It runs the `docker` command, and so uses the engine of the current context or of DOCKER_HOST.
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
"""The default tag of each Dockerfile target; `serve` serves on CPUs only, without PyTorch."""
LISTING = "du -k -d1 /opt/venv/lib/python3*/site-packages"
"""Shell command: the size in KiB of each installed package, for any Python version."""
ACCEPTED_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
"""The only manifest SageMaker accepts: a single image in Docker's format, schema 2.

With an OCI manifest, or an index (a list of images, which BuildKit writes when it attaches a
provenance attestation), CreateModel fails with "Unsupported manifest media type".
"""
ONE_DOCKER_IMAGE = ("--provenance=false", "--output", "type=docker,oci-mediatypes=false")
"""BuildKit options for such an image; with the containerd image store the default is OCI."""


class ImageError(Exception):
    """An image could not be built or inspected; the message is one line that says why."""


@dataclass(frozen=True)
class Builder:
    """A Docker client with BuildKit; `command` is the start of the build command."""

    docker: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class ImagePart:
    """A layer or a package of the image, and its size in bytes."""

    name: str
    size: int


def serving_tag(tag: str) -> str:
    """The tag of the serving image that belongs to the training image's `tag`."""
    return "serve" if tag == "latest" else f"{tag}-serve"


def manifest_problem(manifest: Mapping[str, object]) -> str | None:
    """Why SageMaker would reject an image with this manifest or descriptor; None if it would not.

    `manifest` is the JSON that a registry returns for the tag, or the descriptor that an engine
    shows for the image. Only its `mediaType` is read, which Docker's format always has.
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
    """Every `docker` executable on `path` (default: PATH), in its order."""
    folders = (path if path is not None else os.environ.get("PATH", "")).split(os.pathsep)
    found = (shutil.which("docker", path=folder) for folder in dict.fromkeys(folders) if folder)
    return [client for client in found if client]


def find_builder() -> Builder:
    """The first Docker client with BuildKit, after a check that an engine is reachable.

    Raises:
        ImageError: there is no client, no engine, or no client with BuildKit.
    """
    candidates = docker_clients()
    if not candidates:
        raise ImageError("docker: no such command on PATH; install Docker (Debian: docker.io)")
    _output([candidates[0], "version", "--format", "{{.Server.Version}}"], "docker engine")
    for docker in candidates:
        buildx = subprocess.run([docker, "buildx", "version"], capture_output=True, check=False)
        if buildx.returncode == 0:
            return Builder(docker, (docker, "buildx", "build", *ONE_DOCKER_IMAGE), {})
        # Clients before version 23 include BuildKit; it writes a single image, never an index.
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
    """The complete build command.

    Raises:
        ImageError: the target does not support an option, or `extra_ca` is not a file.
    """
    for option, given in (("--weights", weights), ("--torch-index-url", torch_index_url)):
        if given and target == "serve":
            raise ImageError(f"{option}: not supported by the target serve, which has no PyTorch")
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
    """The image's layers, largest first, each named after the command that created it."""
    columns = "{{.Size}}\t{{.CreatedBy}}"
    history = [docker, "history", "--no-trunc", "--human=false", "--format", columns, image]
    lines = _output(history, image).splitlines()
    pairs = (line.partition("\t") for line in lines)
    return _largest_first(ImagePart(_layer_name(command), int(size)) for size, _, command in pairs)


def packages(docker: str, image: str) -> list[ImagePart]:
    """The contents of the image's site-packages, largest first."""
    listing = _output([docker, "run", "--rm", "--network=none", image, "sh", "-c", LISTING], image)
    pairs = (line.partition("\t") for line in listing.splitlines())
    return _largest_first(
        ImagePart(Path(path).name, int(size) * 1024)
        for size, _, path in pairs
        if Path(path).name != "site-packages"
    )


def report(docker: str, image: str) -> str:
    """The image's name, id, platform and size with its largest layers and packages, as lines.

    Raises:
        ImageError: there is no such image, or SageMaker would reject its manifest.
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
    """Run the build, with its output on the terminal, and remove the image that had `tag` before.

    Raises:
        ImageError: the build failed. For a platform other than the engine's own, the message
            names the emulator that the engine needs.
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
        # This fails, as it should, while a container or another tag still uses the image.
        subprocess.run([builder.docker, "rmi", before], capture_output=True, check=False)


def _image_id(docker: str, image: str) -> str | None:
    inspect = [docker, "image", "inspect", "--format", "{{.Id}}", image]
    found = subprocess.run(inspect, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _revision() -> str:
    """The commit being built; `unknown` without git or outside a repository."""
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


def _largest_first(parts: Iterable[ImagePart]) -> list[ImagePart]:
    return sorted(parts, key=lambda part: -part.size)


def _size(size: int) -> str:
    return f"{size / 1e6:8,.0f} MB"


def _output(command: Sequence[str], subject: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ImageError(f"{subject}: {reason}")
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m local.image` and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local.image", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("build", help="build the image and report its size")
    verb.add_argument(
        "--target",
        default="full",
        choices=tuple(IMAGES),
        help="full, or serve: serves on CPUs only, without PyTorch (default: %(default)s)",
    )
    verb.add_argument("--tag", help="name of the image (default: berth:latest or berth:serve)")
    verb.add_argument(
        "--platform",
        default=DEFAULT,
        choices=(AMD64, ARM64),
        help="platform of the image (default: %(default)s, also on other machines)",
    )
    verb.add_argument(
        "--base-image", help="a Debian 13 or 12 base image (default: debian:trixie-slim)"
    )
    verb.add_argument(
        "--extra-ca", type=Path, help="PEM file of CA certificates to trust during the build only"
    )
    verb.add_argument(
        "--weights",
        nargs="*",
        default=[],
        help="torchvision architectures whose pretrained weights to include",
    )
    verb.add_argument("--torch-index-url", help="package index with another PyTorch build")
    verb.add_argument("--no-cache", action="store_true", help="rebuild every layer")
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
