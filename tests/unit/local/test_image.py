import subprocess
from pathlib import Path

import pytest

from local import image as subject
from local.image import Builder, ImageError, build_command, find_builder, manifest_problem

INDEX = "application/vnd.oci.image.index.v1+json"
LEGACY = Builder("docker", ("docker", "build"), {"DOCKER_BUILDKIT": "1"})


def fake_docker(folder: Path, *, buildx: bool, version: str, engine: bool = True) -> str:
    """Create a fake `docker` for `find_builder`."""
    folder.mkdir(parents=True)
    command = folder / "docker"
    command.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f'  "buildx version") exit {0 if buildx else 1} ;;\n'
        f"  *Server.Version*) {'echo 20.10' if engine else 'echo no daemon >&2; exit 1'} ;;\n"
        f"  *Client.Version*) echo {version} ;;\n"
        """  info*) echo '{"OSType": "linux", "Architecture": "x86_64"}' ;;\n"""
        '  "image inspect"*) exit 1 ;;\n'
        "esac\n"
    )
    command.chmod(0o755)
    return str(folder)


def test_one_image_in_dockers_format_is_accepted() -> None:
    accepted = "application/vnd.docker.distribution.manifest.v2+json"
    assert manifest_problem({"mediaType": accepted, "layers": []}) is None


@pytest.mark.parametrize(
    "manifest",
    [
        {"mediaType": INDEX, "manifests": []},
        {"mediaType": "application/vnd.docker.distribution.manifest.list.v2+json"},
        {"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"},
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []},
        {"schemaVersion": 2, "layers": []},
        {"schemaVersion": 2, "manifests": []},
        {},
    ],
)
def test_images_that_sagemaker_would_refuse_are_refused(manifest: dict[str, object]) -> None:
    problem = manifest_problem(manifest)
    assert problem is not None
    assert "--provenance=false" in problem
    assert str(manifest.get("mediaType", "")) in problem


def test_the_whole_command(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("PEM")
    command = build_command(
        LEGACY,
        tag="berth:mine",
        base_image="base",
        extra_ca=bundle,
        weights=["resnet18", "vit_b_16"],
        platform="linux/arm64",
        torch_index_url="https://index.example/cpu",
        revision="abc",
        no_cache=True,
    )
    assert command[:2] == ["docker", "build"]
    assert command[-1] == str(subject.ROOT)
    assert command[command.index("--platform") + 1] == "linux/arm64"
    assert "WEIGHTS=resnet18 vit_b_16" in command
    assert "BASE_IMAGE=base" in command
    assert "TORCH_INDEX_URL=https://index.example/cpu" in command
    assert "REVISION=abc" in command
    assert f"id=extra_ca,src={bundle}" in command
    assert "--no-cache" in command


def test_only_requested_options_are_passed() -> None:
    command = " ".join(build_command(LEGACY, tag="berth:latest"))
    assert "--platform linux/amd64" in command, "on any machine, as SageMaker's instances have it"
    for word in ("BASE_IMAGE", "TORCH_INDEX_URL", "--secret", "--no-cache"):
        assert word not in command


def test_the_serving_image_has_no_pytorch_options() -> None:
    command = build_command(LEGACY, tag="berth:serve", target="serve")
    assert command[command.index("--target") + 1] == "serve"
    assert not any(word.startswith("WEIGHTS=") for word in command)
    with pytest.raises(ImageError, match="--weights: not supported by the target serve"):
        build_command(LEGACY, tag="berth:serve", target="serve", weights=["resnet18"])
    with pytest.raises(ImageError, match="--torch-index-url"):
        build_command(
            LEGACY, tag="berth:serve", target="serve", torch_index_url="https://a.example"
        )


@pytest.mark.parametrize(
    ("arguments", "tag"),
    [
        ([], "berth:latest"),
        (["--target", "serve"], "berth:serve"),
        (["--target", "serve", "--tag", "berth:mine"], "berth:mine"),
    ],
)
def test_each_target_has_its_name(
    arguments: list[str], tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    monkeypatch.setattr(subject, "find_builder", lambda: LEGACY)
    monkeypatch.setattr(subject, "build", lambda _builder, _command, tag, _: built.append(tag))
    monkeypatch.setattr(subject, "report", lambda _docker, tag: tag)
    assert subject.main(["build", *arguments]) == 0
    assert built == [tag]


def test_an_image_is_built_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands: list[list[str]] = []
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(subject, "find_builder", lambda: LEGACY)
    monkeypatch.setattr(subject, "build", lambda _builder, command, *_: commands.append(command))
    monkeypatch.setattr(subject, "report", lambda _docker, tag: tag)
    assert subject.main(["build"]) == 0
    assert "REVISION=unknown" in commands[0]


def test_every_target_is_a_stage_of_the_dockerfile() -> None:
    text = (subject.ROOT / "docker" / "Dockerfile").read_text()
    for target in subject.IMAGES:
        assert f" AS {target}\n" in text


def test_a_missing_bundle_is_named() -> None:
    with pytest.raises(ImageError, match=r"--extra-ca /nowhere/ca\.pem: no such file"):
        build_command(LEGACY, tag="berth:latest", extra_ca=Path("/nowhere/ca.pem"))


def test_buildx_is_configured_to_create_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", fake_docker(tmp_path / "a", buildx=True, version="28.1.0"))
    command = " ".join(find_builder().command)
    assert "--provenance=false" in command
    assert "--output type=docker,oci-mediatypes=false" in command


def test_a_client_without_buildx_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = fake_docker(tmp_path / "newer", buildx=False, version="28.1.0")
    older = fake_docker(tmp_path / "older", buildx=False, version="20.10.24+dfsg1")
    monkeypatch.setenv("PATH", f"{newer}:{older}")
    builder = find_builder()
    assert builder.docker == f"{older}/docker"
    assert builder.environment == {"DOCKER_BUILDKIT": "1"}


@pytest.mark.parametrize(
    ("docker", "message"),
    [
        (None, "no such command on PATH"),
        ({"buildx": True, "version": "28.1.0", "engine": False}, "docker engine: no daemon"),
        ({"buildx": False, "version": "28.1.0"}, "no buildx; install"),
    ],
)
def test_missing_tools_are_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    docker: dict[str, object] | None,
    message: str,
) -> None:
    path = fake_docker(tmp_path / "a", **docker) if docker else str(tmp_path)  # type: ignore[arg-type]
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(subject, "_revision", lambda: "unknown")
    assert subject.main(["build"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_failed_build_is_an_error(tmp_path: Path) -> None:
    docker = Path(fake_docker(tmp_path / "a", buildx=True, version="28")) / "docker"
    builder = Builder(str(docker), (str(docker),), {})
    with pytest.raises(ImageError, match="docker build failed with status 1, see above$"):
        subject.build(builder, ["false"], "berth:latest")
    with pytest.raises(ImageError, match="linux/arm64 needs an emulator on this engine"):
        subject.build(builder, ["false"], "berth:latest", "linux/arm64")


@pytest.mark.docker
def test_the_report_names_the_image_and_its_largest_packages(image: str) -> None:
    client = find_builder().docker
    inspect = [client, "image", "inspect", "--format", "{{.Id}}", image]
    identity = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
    lines = subject.report(client, image).splitlines()
    assert lines[0].split() == ["image", image]
    assert lines[1].split() == ["id", identity]
    assert lines[2].split()[0] == "platform"
    heaviest = [line.split()[-1] for line in lines if line.startswith("packages")]
    assert "torch" in heaviest
