import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from local.cli import main
from local.client.images import find_images
from local.client.target import Target
from local.commands import invoke as subject
from local.commands.invoke import EndpointClient, payload_limit, predict_all
from local.errors import UserError
from local.results.predictions import heat_map_files
from tests.unit.local.commands.runtime_server import RuntimeHandler, served

URL_MARK = "/endpoints/flowers/invocations"


class Runtime(RuntimeHandler):
    """Predicts red for an image that starts with `r`, blue for `b`; refuses `bad` ones."""

    seen: list[tuple[str, dict[str, str], bytes]]
    described: dict[str, Any]
    heat_map = b"\x89PNG\r\n\x1a\n..."

    def do_POST(self) -> None:  # noqa: N802
        operation, body = self.read()
        if self.path != URL_MARK:
            assert operation == "DescribeEndpoint"
            self.answer(200, self.described)
            return
        self.seen.append((self.headers["Content-Type"], dict(self.headers), body))
        pictures = [body]
        if self.headers["Content-Type"] == "application/json":
            pictures = [base64.b64decode(one["b64"]) for one in json.loads(body)["instances"]]
        if any(b"bad" in picture for picture in pictures):
            model_error = {
                "Message": "Received client error (400) from primary",
                "OriginalStatusCode": 400,
                "OriginalMessage": json.dumps({"error": "request body: not an image"}),
            }
            self.answer(424, model_error, "ModelError")
            return
        rows = []
        for picture in pictures:
            label = "red" if picture[:1] == b"r" else "blue"
            row = {
                "label": label,
                "probability": 0.9,
                "top": [{"label": label, "probability": 0.9}],
            }
            if "explain=true" in self.headers.get("X-Amzn-SageMaker-Custom-Attributes", ""):
                row["heat_map"] = base64.b64encode(self.heat_map).decode()
            rows.append(row)
        self.answer(200, {"predictions": rows})


@pytest.fixture
def runtime() -> Iterator[type[Runtime]]:
    with served(Runtime, seen=[], described={"EndpointStatus": "InService"}) as runtime:
        yield runtime


@pytest.fixture
def client(runtime: Any) -> Iterator[Any]:
    target = Target("local", runtime.url, "us-east-1", "123456789012", "", "", "")
    client = target.client("sagemaker-runtime")
    yield client
    client.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, content in {
        "red/1.jpg": b"r1",
        "red/2.jpg": b"r2",
        "blue/1.png": b"b1",
        "blue/2.png": b"r-odd",
    }.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "photos"


def test_one_image_is_sent_unchanged(client: Any, runtime: type[Runtime], photos: Path) -> None:
    (picture,) = find_images([photos / "blue" / "1.png"])
    (answer,) = EndpointClient(
        client, "flowers", top_k=3, variant="B", target_model="a.tar.gz"
    ).predict([picture])
    assert answer.top == (("blue", 0.9),)
    kind, headers, body = runtime.seen[0]
    assert (kind, body) == ("image/png", b"b1")
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == "top_k=3"
    assert headers["X-Amzn-SageMaker-Target-Variant"] == "B"
    assert headers["X-Amzn-SageMaker-Target-Model"] == "a.tar.gz"
    assert headers["Accept"] == "application/json"


def test_each_images_heat_map_is_a_file(
    client: Any, runtime: type[Runtime], photos: Path, tmp_path: Path
) -> None:
    (photos / "red" / "1,jpg").write_bytes(b"r1")
    pictures = [*find_images([photos]), *find_images([photos / "red" / "1,jpg"] * 2)]
    files = heat_map_files(pictures[:-1], tmp_path / "heat")
    assert len(set(files.values())) == len(files) == 5
    assert files[pictures[0]] == tmp_path / "heat" / "blue-1.png.png"
    assert {path.parent for path in files.values()} == {tmp_path / "heat"}
    answers = predict_all(EndpointClient(client, "flowers", heat_maps=files), pictures[:-1])
    assert [answer.error for answer in answers] == [None] * 5
    for answer in answers:
        assert answer.heat_map == files[answer.image]
        assert files[answer.image].read_bytes() == runtime.heat_map
        assert answer.to_json()["heat_map"] == str(files[answer.image])


def test_a_container_without_explanations_is_reported(
    client: Any, runtime: type[Runtime], photos: Path, tmp_path: Path
) -> None:
    pictures = find_images([photos])[:1]
    files = heat_map_files(pictures, tmp_path / "heat")
    for sent in (b"", b"<html>"):
        runtime.heat_map = sent
        (answer,) = predict_all(EndpointClient(client, "flowers", heat_maps=files), pictures)
        assert "heat map" in str(answer.error)
    assert not (tmp_path / "heat").exists()


def test_heat_maps_are_made_one_by_one(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["invoke", "flowers", str(photos), "--explain", "heat", "--batch", "2"]) == 1
    assert "--batch 2" in capsys.readouterr().err


def test_heat_maps_go_into_a_folder(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(path for path in photos.rglob("*") if path.is_file())
    assert main(["invoke", "flowers", str(photos), "--explain", str(file)]) == 2
    assert "is a file" in " ".join(capsys.readouterr().err.split())


def test_an_error_affects_only_its_image(client: Any, photos: Path) -> None:
    (photos / "red" / "3.jpg").write_bytes(b"bad")
    answers = predict_all(EndpointClient(client, "flowers"), find_images([photos]))
    assert [answer.image.name for answer in answers] == [
        "blue/1.png",
        "blue/2.png",
        "red/1.jpg",
        "red/2.jpg",
        "red/3.jpg",
    ]
    assert [bool(answer.error) for answer in answers] == [False, False, False, False, True]
    assert answers[-1].error == "HTTP 400: request body: not an image"


def test_a_batch_is_one_request(client: Any, runtime: type[Runtime], photos: Path) -> None:
    answers = predict_all(EndpointClient(client, "flowers"), find_images([photos]), batch=3)
    assert [answer.top[0][0] for answer in answers] == ["blue", "red", "red", "red"]
    assert sorted(kind for kind, *_ in runtime.seen) == ["application/json", "image/jpeg"]


def test_a_bad_image_in_a_batch_fails_alone(client: Any, photos: Path) -> None:
    (photos / "blue" / "3.png").write_bytes(b"bad")
    answers = predict_all(EndpointClient(client, "flowers"), find_images([photos]), batch=8)
    assert [answer.error for answer in answers] == [
        None,
        None,
        "HTTP 400: request body: not an image",
        None,
        None,
    ]


def test_an_image_that_is_too_large_is_named_and_not_sent(
    client: Any, runtime: type[Runtime], photos: Path
) -> None:
    (photos / "red" / "1.jpg").write_bytes(b"r" * 2000)
    answers = predict_all(
        EndpointClient(client, "flowers", limit=1000), find_images([photos / "red"])
    )
    assert answers[0].error is not None
    assert answers[0].error.startswith("1.jpg: found 2,000 bytes, expected at most 1,000")
    assert answers[1].error is None
    assert len(runtime.seen) == 1


@pytest.mark.parametrize("batch", [1, 2])
def test_shrink_resizes_a_large_image(
    client: Any, runtime: type[Runtime], tmp_path: Path, batch: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    limit = 60_000
    caller = EndpointClient(client, "flowers", limit=limit, shrink=True)
    answers = predict_all(caller, find_images([tmp_path]), batch=batch)
    assert all(answer.resized and answer.error is None for answer in answers)
    assert len(runtime.seen) == 2  # too large to share a request
    assert all(len(body) <= limit for *_, body in runtime.seen)
    assert {kind for kind, *_ in runtime.seen} == {"image/jpeg"}


def test_a_large_image_is_sent_separately_from_the_batch(
    client: Any, runtime: type[Runtime], photos: Path
) -> None:
    (photos / "red" / "1.jpg").write_bytes(b"r" * 900)
    answers = predict_all(
        EndpointClient(client, "flowers", limit=1000), find_images([photos]), batch=4
    )
    assert [answer.error for answer in answers] == [None] * 4
    assert sorted(kind for kind, *_ in runtime.seen) == ["application/json", "image/jpeg"]


def test_a_file_that_cannot_be_read_fails_alone(client: Any, photos: Path) -> None:
    pictures = find_images([photos])
    (photos / "red" / "1.jpg").unlink()
    for batch in (1, 4):
        answers = predict_all(EndpointClient(client, "flowers"), pictures, batch=batch)
        assert [answer.error for answer in answers] == [
            None,
            None,
            "red/1.jpg: cannot be read: No such file or directory",
            None,
        ]


def test_requests_run_side_by_side(photos: Path) -> None:
    together = threading.Barrier(4, timeout=10)

    class Slow(EndpointClient):
        def predict(self, *_: Any) -> Any:
            together.wait()
            return []

    assert predict_all(Slow(None, "flowers"), find_images([photos]), parallel=4) == []


def test_an_unexpected_exception_is_raised(photos: Path) -> None:
    class Broken:
        def invoke_endpoint(self, **_: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        predict_all(EndpointClient(Broken(), "flowers"), find_images([photos]))


class Described:
    def __init__(self, **answer: Any) -> None:
        self.answer = answer

    def describe_endpoint(self, **_: Any) -> dict[str, Any]:
        return self.answer


def test_the_limit_depends_on_the_endpoint() -> None:
    variants = [{"VariantName": "AllTraffic", "CurrentServerlessConfig": {"MemorySizeInMB": 1024}}]
    instances = Described(EndpointStatus="InService", ProductionVariants=[{"VariantName": "A"}])
    assert payload_limit(instances, "flowers") == 25 * 1024**2
    serverless = Described(EndpointStatus="Updating", ProductionVariants=variants)
    assert payload_limit(serverless, "flowers") == 4 * 1024**2
    with pytest.raises(UserError, match="is Creating, expected InService"):
        payload_limit(Described(EndpointStatus="Creating"), "flowers")
    asynchronous = Described(EndpointStatus="InService", AsyncInferenceConfig={"OutputConfig": {}})
    with pytest.raises(UserError, match="asynchronous"):
        payload_limit(asynchronous, "flowers")


def test_a_missing_endpoint_is_reported(moto_target: Target) -> None:
    with pytest.raises(UserError, match="endpoint nobody: not found"):
        payload_limit(moto_target.client("sagemaker"), "nobody")


@pytest.fixture
def command(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    target = Target("local", runtime.url, "us-east-1", "123456789012", "", "", "")
    monkeypatch.setattr("local.commands.options.shared.connect", lambda **_: target)
    return lambda *arguments: main(["invoke", "flowers", *map(str, arguments)])


def test_the_command_prints_json_lines_and_the_accuracy(
    command: Any, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(photos, "--json") == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [(line["truth"], line["label"]) for line in lines] == [
        ("blue", "blue"),
        ("blue", "red"),
        ("red", "red"),
        ("red", "red"),
    ]
    assert "accuracy 0.7500: 3 of 4" in shown.err


def test_the_commands_status_is_1_after_a_failure(
    command: Any, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "red" / "1.jpg").write_bytes(b"bad")
    assert command(photos / "red") == 1
    shown = capsys.readouterr()
    assert "HTTP 400" in shown.out
    assert "1 of 2 images have no prediction" in shown.err


def test_a_plan_sends_nothing(
    runtime: type[Runtime],
    photos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target("local", None, "us-east-1", "123456789012", "", "", "", plan=True)
    monkeypatch.setattr("local.commands.options.shared.connect", lambda **_: target)
    assert main(["invoke", "flowers", str(photos), "--plan", "--top-k", "2"]) == 0
    shown = capsys.readouterr().out
    assert "sagemaker:InvokeEndpoint" in shown
    assert '"CustomAttributes": "top_k=2"' in shown
    assert runtime.seen == []


def test_a_request_has_at_most_as_many_instances_as_the_container_accepts() -> None:
    from serve.payloads.images import MAX_INSTANCES

    assert subject.MAX_BATCH == MAX_INSTANCES
