"""Multi-model endpoints, through boto3's runtime client and the toy image."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emulator.executors import Executor
from local.emulator.hosting.invocations import InvocationLimits
from local.emulator.hosting.target_models import ModelRefused, TargetModels
from local.emulator.store import Kind
from tests.unit.local.emulator.fakes import BUCKET, FakeObjects
from tests.unit.local.emulator.hosting_harness import IMAGE, HostingHarness, archive, build

process_only = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


@pytest.fixture
def harness(tmp_path: Path, toy_executor: Executor) -> Iterator[HostingHarness]:
    harness = build(tmp_path, toy_executor)
    yield harness
    harness.close()


def upload(harness: HostingHarness, key: str, said: str = "", **files: bytes) -> None:
    """Upload an archive below the prefix whose model returns its key or the given text."""
    content = {"model.json": json.dumps({"name": said or key}).encode(), **files}
    harness.objects.add(f"models/{key}", archive(content))


def serve(harness: HostingHarness, prefix: str = "models/", **environment: str) -> None:
    """Create a multi-model endpoint `many` and wait until it is in service."""
    container = {
        "Image": IMAGE,
        "Mode": "MultiModel",
        "ModelDataUrl": f"s3://{BUCKET}/{prefix}",
        "Environment": environment,
    }
    body = {"ModelName": "many", "PrimaryContainer": container}
    harness.context.store.add(Kind.MODEL, "many", harness.context.arn(Kind.MODEL, "many"), body)
    harness.config("many", {"ModelName": "many"})
    harness.create("many")
    body = harness.wait("many", "InService", "Failed")
    assert body["EndpointStatus"] == "InService", body["FailureReason"]


def ask(client: Any, target: str, body: bytes = b"who") -> str:
    answer = client.invoke_endpoint(EndpointName="many", Body=body, TargetModel=target)
    return answer["Body"].read().decode()


def refusal(call: Any, **request: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(EndpointName="many", Body=b"x", **request)
    answer = caught.value.response
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    return answer["Error"]["Code"], status, answer["Error"]["Message"]


def loads(harness: HostingHarness) -> list[str]:
    start = "toy: loads "
    return [line.removeprefix(start) for line in harness.logs.lines() if line.startswith(start)]


@pytest.mark.parametrize("prefix", ["models/", "models"])
def test_models_are_loaded_at_their_first_invocation(harness: HostingHarness, prefix: str) -> None:
    upload(harness, "a.tar.gz")
    upload(harness, "deep/b.tar.gz")
    serve(harness, prefix)
    with harness.runtime() as client:
        assert json.loads(ask(client, "a.tar.gz")) == {"name": "a.tar.gz"}
        assert json.loads(ask(client, "deep/b.tar.gz")) == {"name": "deep/b.tar.gz"}
        assert json.loads(ask(client, "a.tar.gz")) == {"name": "a.tar.gz"}
        # A model uploaded later needs no deployment.
        code, status, message = refusal(client.invoke_endpoint, TargetModel="late.tar.gz")
        assert (code, status) == ("ValidationError", 400)
        assert message.startswith(
            f"Failed to download model data (bucket: {BUCKET}, key: models/late.tar.gz). Please"
        )
        upload(harness, "late.tar.gz")
        assert json.loads(ask(client, "late.tar.gz")) == {"name": "late.tar.gz"}
        assert loads(harness) == ["a.tar.gz", "deep/b.tar.gz", "late.tar.gz"]

        code, status, message = refusal(client.invoke_endpoint)
        assert (code, status) == ("ValidationError", 400)
        assert message.endswith("is missing a target model header.")
        code, status, _ = refusal(client.invoke_endpoint_with_response_stream)
        assert (code, status) == ("ValidationError", 400)
    harness.endpoints.delete("many")
    harness.gone("many")
    assert list(harness.context.home.path.rglob("models")) == []


def test_the_least_recently_used_model_is_unloaded(harness: HostingHarness) -> None:
    for name in "abc":
        upload(harness, name)
    serve(harness)  # The toy has room for two models.
    with harness.runtime() as client:
        for name in ("a", "b", "a", "c", "a", "b"):
            assert json.loads(ask(client, name)) == {"name": name}
    assert loads(harness) == ["a", "b", "c", "b"]


@process_only
class TestOfProcesses:
    def test_if_no_model_can_be_unloaded_the_containers_error_is_returned(
        self, harness: HostingHarness
    ) -> None:
        upload(harness, "a")
        serve(harness, TOY_MODELS="0")
        with harness.runtime() as client:
            code, status, message = refusal(client.invoke_endpoint, TargetModel="a")
        assert (code, status) == ("ModelError", 424)
        assert 'server error (507) from primary with message "toy: no memory"' in message

    def test_a_model_that_fails_to_load_is_an_error_and_may_be_replaced(
        self, harness: HostingHarness
    ) -> None:
        upload(harness, "a", broken=b"x")
        harness.objects.add("models/junk", b"junk")
        serve(harness)
        with harness.runtime() as client:
            code, status, message = refusal(client.invoke_endpoint, TargetModel="a")
            assert (code, status) == ("ModelError", 424)
            assert 'client error (400) from primary with message "toy: broken"' in message
            code, status, message = refusal(client.invoke_endpoint, TargetModel="junk")
            assert (code, status) == ("ValidationError", 400)
            assert "not a gzip-compressed tar archive" in message
            upload(harness, "a")
            assert json.loads(ask(client, "a")) == {"name": "a"}

    def test_a_replaced_archive_is_used_when_the_model_is_loaded_again(
        self, harness: HostingHarness
    ) -> None:
        upload(harness, "a", "old")
        for name in "bc":
            upload(harness, name)
        serve(harness)
        with harness.runtime() as client:
            assert json.loads(ask(client, "a")) == {"name": "old"}
            upload(harness, "a", "new")
            assert json.loads(ask(client, "a")) == {"name": "old"}
            ask(client, "b")
            ask(client, "c")
            assert json.loads(ask(client, "a")) == {"name": "new"}

    def test_a_model_lost_by_the_container_is_loaded_again(self, harness: HostingHarness) -> None:
        upload(harness, "a")
        serve(harness)
        with harness.runtime() as client:
            ask(client, "a", b"forget")
            assert json.loads(ask(client, "a")) == {"name": "a"}
            harness.kill("many")
            harness.logs.wait_for("it serves again")
            harness.wait("many", "InService")
            assert json.loads(ask(client, "a")) == {"name": "a"}
        assert loads(harness) == ["a", "a", "a"]

    def test_concurrent_invocations_load_a_model_once(self, harness: HostingHarness) -> None:
        upload(harness, "a", slow=b"x")
        serve(harness)
        with harness.runtime() as client, ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(client, "a"), range(8)))
        assert [json.loads(answer) for answer in answers] == [{"name": "a"}] * 8
        assert loads(harness) == ["a"]

    def test_a_slow_model_is_not_ready_and_continues_loading(
        self, tmp_path: Path, toy_executor: Executor
    ) -> None:
        harness = build(tmp_path, toy_executor, limits=replace(InvocationLimits(), timeout=0.5))
        upload(harness, "a", slow=b"x")
        serve(harness)
        with harness.runtime() as client:
            code, status, _ = refusal(client.invoke_endpoint, TargetModel="a")
            assert (code, status) == ("ModelNotReadyException", 429)
            until = time.monotonic() + 60
            while not loads(harness):
                assert time.monotonic() < until
                time.sleep(0.01)
        assert loads(harness) == ["a"]
        harness.close()

    def test_an_image_without_a_list_of_models_is_refused(self, harness: HostingHarness) -> None:
        upload(harness, "a")
        with pytest.raises(AssertionError, match="GET /models answered 404"):
            serve(harness, SAGEMAKER_MULTI_MODEL="false")


def test_a_stopped_container_loads_no_model(tmp_path: Path) -> None:
    models = TargetModels(FakeObjects(tmp_path / "s3"), f"s3://{BUCKET}/models", tmp_path, 1)
    models.close()
    with pytest.raises(ModelRefused):
        models.path("a", 30)
    assert not models.make_room("a")
