"""Pushes to moto's ECR with a fake engine, and to a real registry with a real engine."""

import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import requests

from local.cli import main
from local.client.registry import Login, registry_digest
from local.client.target import Target
from local.commands import push as subject
from local.commands.push import EngineUnavailable, follow, split, to_ecr, to_registry
from local.errors import UserError
from tests.requirements import missing

if TYPE_CHECKING:
    from docker.client import DockerClient

CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class Engine:
    """The part of docker's client that `push` uses; a push puts a manifest into moto's ECR."""

    def __init__(
        self, target: Target | None = None, lines: list[dict[str, Any]] | None = None
    ) -> None:
        self.target, self.lines = target, lines or [{"status": "done"}]
        self.descriptor: dict[str, Any] | None = None
        self.architecture = "amd64"
        self.names = {"berth:latest"}
        self.pushed: list[dict[str, Any]] = []
        self.tagged: list[tuple[str, str]] = []
        self.images = self.api = self

    def get(self, image: str) -> Any:
        from docker.errors import ImageNotFound

        if image not in self.names:
            raise ImageNotFound(image)
        return self

    @property
    def attrs(self) -> dict[str, Any]:
        shown = {"Os": "linux", "Architecture": self.architecture}
        return shown | ({"Descriptor": self.descriptor} if self.descriptor else {})

    def tag(self, uri: str, tag: str) -> bool:
        self.tagged.append((uri, tag))
        return True

    def push(self, uri: str, tag: str, **options: Any) -> list[dict[str, Any]]:
        self.pushed.append({"uri": uri, "tag": tag, **options})
        if self.target:
            self.target.client("ecr").put_image(
                repositoryName=uri.partition("/")[2],
                imageTag=tag,
                imageManifest=json.dumps(
                    {
                        "schemaVersion": 2,
                        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                        "config": {"size": 1, "digest": "sha256:" + "a" * 64},
                        "layers": [],
                    }
                ),
            )
        return self.lines


@pytest.fixture
def pretended(moto_target: Target, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine(moto_target)

    @contextmanager
    def connect() -> Iterator[Engine]:
        yield engine

    monkeypatch.setattr(subject, "connect_engine", connect)
    return engine


def test_to_ecr_logs_in_pushes_and_returns_the_digest(
    pretended: Engine, moto_target: Target, capfd: pytest.CaptureFixture[str]
) -> None:
    uri = to_ecr(moto_target, "berth:latest", "flowers", "v1")
    host = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    (image,) = moto_target.client("ecr").describe_images(repositoryName="flowers")["imageDetails"]
    assert uri == f"{host}/flowers@{image['imageDigest']}"
    assert image["imageTags"] == ["v1"]
    assert pretended.tagged == [(f"{host}/flowers", "v1")]
    (pushed,) = pretended.pushed
    assert pushed["auth_config"] == {"username": "AWS", "password": "123456789012-auth-token"}
    shown = capfd.readouterr()
    assert "auth-token" not in shown.out + shown.err


@pytest.mark.parametrize("media_type", [INDEX_TYPE, "application/vnd.oci.image.manifest.v1+json"])
def test_images_that_sagemaker_refuses_are_refused_before_anything_is_created(
    media_type: str, pretended: Engine, moto_target: Target
) -> None:
    pretended.descriptor = {"mediaType": media_type, "digest": "sha256:1", "size": 1}
    with pytest.raises(UserError, match="berth:latest: manifest: found application/vnd.oci"):
        to_ecr(moto_target, "berth:latest", "flowers", "v1")
    assert pretended.pushed == []
    assert moto_target.client("ecr").describe_repositories()["repositories"] == []


@pytest.mark.parametrize(
    ("architecture", "instance_type", "refused"),
    [
        ("amd64", None, None),
        ("arm64", None, "found linux/arm64, expected linux/amd64"),
        ("arm64", "ml.c7g.xlarge", None),
        ("amd64", "ml.c7g.xlarge", "found linux/amd64, expected linux/arm64"),
        ("arm64", "ml.g5.xlarge", "found linux/arm64, expected linux/amd64"),
    ],
)
def test_an_image_for_another_architecture_is_refused_before_anything_is_created(
    architecture: str,
    instance_type: str | None,
    refused: str | None,
    pretended: Engine,
    moto_target: Target,
) -> None:
    pretended.architecture = architecture
    if refused is None:
        assert to_ecr(moto_target, "berth:latest", "flowers", "v1", instance_type=instance_type)
        return
    with pytest.raises(UserError, match=refused) as raised:
        to_ecr(moto_target, "berth:latest", "flowers", "v1", instance_type=instance_type)
    assert (instance_type or "SageMaker") in str(raised.value)
    assert (pretended.pushed, pretended.tagged) == ([], [])
    assert moto_target.client("ecr").describe_repositories()["repositories"] == []


def test_a_missing_image_is_named(pretended: Engine, moto_target: Target) -> None:
    with pytest.raises(UserError, match="other:1: the engine has no such image"):
        to_ecr(moto_target, "other:1", "other", "1")


def test_the_engines_message_is_the_error(pretended: Engine, moto_target: Target) -> None:
    pretended.target = None
    pretended.lines = [{"status": "Preparing", "id": "1"}, {"error": "denied: no basic auth"}]
    with pytest.raises(UserError, match="flowers:v1: denied: no basic auth"):
        to_ecr(moto_target, "berth:latest", "flowers", "v1")


def test_progress_in_a_log_is_one_line_per_layer(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[dict[str, Any]] = [
        {"status": "The push refers to repository"},
        {"status": "Pushing", "id": "l1", "progressDetail": {"current": 5, "total": 10}},
        {"status": "Pushed", "id": "l1", "progressDetail": {}},
        {"progressDetail": {}, "aux": {"Tag": "v1", "Digest": "sha256:1", "Size": 1}},
    ]
    follow(lines, "flowers:v1")
    assert "l1: pushed" in capfd.readouterr().err


def test_on_the_local_sagemaker_the_image_keeps_its_name(
    pretended: Engine,
    moto_target: Target,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("local.commands.options.shared.connect", lambda **_: moto_target)
    pretended.architecture = "arm64"  # the architecture of this machine's engine
    pretended.descriptor = {"mediaType": INDEX_TYPE, "digest": "sha256:1", "size": 1}
    assert main(["push"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "berth:latest\n"
    assert "nothing to push" in shown.err
    assert pretended.pushed == []
    (found,) = moto_target.client("ecr").describe_repositories()["repositories"]
    assert found["repositoryName"] == "berth"


@pytest.mark.parametrize(
    ("arguments", "tags"),
    [
        ([], ["latest", "serve"]),
        (["--tag", "v1"], ["v1", "v1-serve"]),
        (["berth:latest"], ["latest"]),
        (["berth:serve"], ["serve"]),
    ],
)
def test_both_images_are_pushed_if_both_were_built(
    arguments: list[str],
    tags: list[str],
    pretended: Engine,
    moto_aws: Target,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretended.names.add("berth:serve")
    assert main(["push", *arguments, "--where", "aws", "--region", "us-east-1"]) == 0
    shown = capsys.readouterr().out
    assert [pushed["tag"] for pushed in pretended.pushed] == tags
    assert [line.partition("@")[0].rpartition("/")[2] for line in shown.splitlines()] == [
        "berth" for _ in tags
    ]


def test_an_image_for_another_architecture_is_left_out(
    pretended: Engine,
    moto_target: Target,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretended.names.add("berth:serve")
    pretended.architecture = "arm64"
    monkeypatch.setattr("local.commands.options.shared.connect", lambda **_: moto_target)
    assert main(["push"]) == 0, "here any will do"
    assert capsys.readouterr().out == "berth:latest\nberth:serve\n"
    assert main(["push", "--registry", "127.0.0.1:9", "--plan"]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1
    assert "berth:serve is skipped: platform: found linux/arm64" in shown.err


def test_without_an_engine_the_local_sagemaker_runs_plain_processes(
    moto_target: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def connect() -> AbstractContextManager[Engine]:
        raise EngineUnavailable("docker: no engine answers")

    monkeypatch.setattr(subject, "connect_engine", connect)
    assert subject.keep_here(moto_target, "berth:latest", "berth") == "berth:latest"
    assert "plain processes" in capsys.readouterr().err
    with pytest.raises(EngineUnavailable):
        to_ecr(moto_target, "berth:latest", "berth", "latest")


def test_a_missing_engine_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with (
        pytest.raises(EngineUnavailable, match="no Docker engine answers"),
        subject.connect_engine(),
    ):
        pass


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("berth", ("berth", "latest")),
        ("berth:mine", ("berth", "mine")),
        ("team/berth:1.0", ("team/berth", "1.0")),
        ("localhost/berth", ("berth", "latest")),
        ("127.0.0.1:5000/team/berth:x", ("team/berth", "x")),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:v1", ("berth", "v1")),
    ],
)
def test_an_images_name_and_tag(image: str, parts: tuple[str, str]) -> None:
    assert split(image) == parts


def test_images_that_cannot_be_pushed_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["berth@sha256:1"], "found a digest, expected a name with a tag"),
        (["berth", "--repository", "Flowers"], "--repository: found 'Flowers'"),
        (["berth", "--tag", "a b"], "--tag: found 'a b'"),
        (["berth", "--instance-type", "c7g"], "--instance-type: found 'c7g'"),
    ):
        assert main(["push", *arguments]) == 1
        assert message in capsys.readouterr().err


def test_a_plan_sends_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server there
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    role = "arn:aws:iam::123456789012:role/berth"
    assert main(["push", "--where", "aws", "--role", role, "--plan"]) == 0
    shown = capsys.readouterr().out
    assert '"scanOnPush": true' in shown
    assert "ecr:PutImage" in shown
    assert main(["push", "--registry", "127.0.0.1:9", "--plan"]) == 0
    assert "would push berth:latest to 127.0.0.1:9/berth:latest" in capsys.readouterr().out


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Start Debian's `docker-registry` on loopback and return its host and port."""
    command = shutil.which("docker-registry")
    if command is None:
        missing("no docker-registry on PATH (Debian: docker-registry)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "registry"
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(CONFIG.format(folder=folder / "data", port=port))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([command, "serve", str(config)], stdout=log, stderr=log)
    try:
        wait_for_registry(f"http://127.0.0.1:{port}/v2/", folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for_registry(url: str, log: Path) -> None:
    for _ in range(200):
        try:
            if requests.get(url, timeout=1).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    pytest.fail(f"the registry did not come up: {log.read_text()}")


@pytest.fixture(scope="module")
def tiny(engine: "DockerClient") -> Iterator[str]:
    """Build an image of one small file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("hello")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    name = f"berth-test-{uuid4().hex[:12]}"
    engine.api.import_image_from_data(data.getvalue(), repository=name, tag="tiny")
    yield f"{name}:tiny"
    for tag in engine.images.get(f"{name}:tiny").tags:
        engine.images.remove(tag)


@pytest.fixture
def foreign(engine: "DockerClient", tiny: str, tmp_path: Path) -> Iterator[str]:
    """Build the same image for another architecture, as Docker on a Mac does."""
    saved = tmp_path / "saved"
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.images.get(tiny).save()))) as archive:
        archive.extractall(saved)  # noqa: S202  # the engine wrote it just now
    name = f"{tiny}-arm64"
    (listed,) = json.loads((saved / "manifest.json").read_text())
    config = json.loads((saved / listed["Config"]).read_text()) | {"architecture": "arm64"}
    (saved / "arm64.json").write_text(json.dumps(config))
    entry = {"Config": "arm64.json", "RepoTags": [name], "Layers": listed["Layers"]}
    (saved / "manifest.json").write_text(json.dumps([entry]))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in ("manifest.json", "arm64.json", *listed["Layers"]):
            archive.add(saved / path, arcname=path)
    engine.images.load(data.getvalue())
    yield name
    for tag in engine.images.get(name).tags:
        engine.images.remove(tag)


@pytest.mark.docker
def test_a_real_registry_receives_no_image_for_another_architecture(
    registry: str, foreign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [foreign, "--registry", registry, "--repository", "foreign", "--tag", "v1"]
    assert main(["push", *arguments]) == 1
    refusal = capsys.readouterr().err
    assert f"{foreign}: platform: found linux/arm64, expected linux/amd64" in refusal
    assert refusal.count("\n") == 1
    assert requests.get(f"http://{registry}/v2/_catalog", timeout=60).json()["repositories"] == []
    assert main(["push", *arguments, "--instance-type", "ml.c7g.xlarge"]) == 0
    held = requests.get(f"http://{registry}/v2/_catalog", timeout=60).json()["repositories"]
    assert held == ["foreign"]


def manifest_digest(registry: str, name: str, tag: str) -> str:
    accept = "application/vnd.docker.distribution.manifest.v2+json"
    answer = requests.get(
        f"http://{registry}/v2/{name}/manifests/{tag}", headers={"Accept": accept}, timeout=60
    )
    answer.raise_for_status()
    digest = "sha256:" + hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["Docker-Content-Digest"] == digest
    return digest


@pytest.mark.docker
def test_a_real_registry_has_the_printed_digest(
    engine: "DockerClient", registry: str, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [tiny, "--registry", registry, "--repository", "team/tiny", "--tag", "v1"]
    assert main(["push", *arguments]) == 0
    uri = capsys.readouterr().out.strip()
    assert uri == f"{registry}/team/tiny@{manifest_digest(registry, 'team/tiny', 'v1')}"
    pulled = engine.images.pull(uri)
    assert pulled.id == engine.images.get(tiny).id


@pytest.mark.docker
def test_an_index_in_a_real_registry_is_refused(
    engine: "DockerClient", registry: str, tiny: str
) -> None:
    to_registry(tiny, Login(registry), "listed", "single")
    single = manifest_digest(registry, "listed", "single")
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            {
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "digest": single,
                "size": 1,
                "platform": {"architecture": "amd64", "os": "linux"},
            }
        ],
    }
    requests.put(
        f"http://{registry}/v2/listed/manifests/index",
        data=json.dumps(index),
        headers={"Content-Type": INDEX_TYPE},
        timeout=10,
    ).raise_for_status()
    assert registry_digest(engine, f"{registry}/listed:single") == single
    with pytest.raises(
        UserError, match=f"listed:index: manifest: found {INDEX_TYPE}".replace("+", r"\+")
    ):
        registry_digest(engine, f"{registry}/listed:index")


@pytest.mark.docker
def test_an_unreachable_registry_is_reported(tiny: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(UserError, match=f"{host}/x:tiny: "):
            to_registry(tiny, Login(host), "x", "tiny")
