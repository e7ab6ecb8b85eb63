import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from local.emulator.executors import Executor
from local.emulator.hosting.invocations import InvocationLimits
from tests.unit.local.emulator.fakes import BUCKET
from tests.unit.local.emulator.hosting_harness import HostingHarness, build

process_only = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


@pytest.fixture
def harness(tmp_path: Path, toy_executor: Executor) -> Iterator[HostingHarness]:
    harness = build(
        tmp_path,
        toy_executor,
        limits=replace(InvocationLimits(), timeout=3, payload=300_000, serverless=100_000),
    )
    yield harness
    harness.close()


def refusal(call: Any, **request: Any) -> tuple[str, int, dict[str, Any]]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer


def test_an_invocation_is_forwarded_and_errors_are_those_of_aws(harness: HostingHarness) -> None:
    harness.serve("one")
    with harness.runtime() as client:
        answer = client.invoke_endpoint(
            EndpointName="one", Body=b"hello", ContentType="text/x", CustomAttributes="a=b"
        )
        assert answer["Body"].read() == b"hello"
        assert answer["ContentType"] == "text/x"
        assert answer["CustomAttributes"] == "a=b"
        assert answer["InvokedProductionVariant"] == "AllTraffic"
        who = client.invoke_endpoint(EndpointName="one", Body=b"who")
        assert json.loads(who["Body"].read()) == {"name": "one"}

        code, status, error = refusal(
            client.invoke_endpoint, EndpointName="one", Body=b"status 418"
        )
        assert (code, status) == ("ModelError", 424)
        assert error["OriginalStatusCode"] == 418
        assert error["OriginalMessage"] == "toy: as asked"
        assert error["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/one")
        assert error["Error"]["Message"].startswith(
            'Received client error (418) from primary with message "toy: as asked". See '
        )
        code, status, error = refusal(
            client.invoke_endpoint, EndpointName="one", Body=b"status 503"
        )
        assert (code, error["OriginalStatusCode"]) == ("ModelError", 503)
        assert error["Error"]["Message"].startswith("Received server error (503) from primary")


@process_only
class TestRefusals:
    def test_unknown_endpoints_and_variants(self, harness: HostingHarness) -> None:
        harness.serve("one")
        with harness.runtime() as client:
            code, status, error = refusal(client.invoke_endpoint, EndpointName="no", Body=b"x")
            assert (code, status) == ("ValidationError", 400)
            assert error["Error"]["Message"] == "Endpoint no of account 123456789012 not found."
            code, _, error = refusal(
                client.invoke_endpoint, EndpointName="one", Body=b"x", TargetVariant="blue"
            )
            assert code == "ValidationError"
            assert "Variant blue of endpoint one" in error["Error"]["Message"]

    def test_an_endpoint_not_in_service(self, harness: HostingHarness) -> None:
        harness.model("one", {"broken": b""})
        harness.config("one", {"ModelName": "one"})
        harness.create("one")
        harness.wait("one", "Failed")
        with harness.runtime() as client:
            code, _, error = refusal(client.invoke_endpoint, EndpointName="one", Body=b"x")
        assert code == "ValidationError"
        assert error["Error"]["Message"].endswith("is not in service: its status is Failed.")

    def test_payloads_over_the_limit(self, harness: HostingHarness) -> None:
        harness.serve("one")
        harness.model("small")
        harness.config(
            "small",
            {
                "ModelName": "small",
                "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
                "InstanceType": None,
            },
        )
        harness.create("small")
        harness.wait("small", "InService")
        with harness.runtime() as client:
            for name, size in (("one", 300_000), ("small", 100_000)):
                fits = client.invoke_endpoint(EndpointName=name, Body=b"x" * size)
                assert len(fits["Body"].read()) == size
                code, status, error = refusal(
                    client.invoke_endpoint, EndpointName=name, Body=b"x" * (size + 1)
                )
                assert (code, status) == ("413", 413)
                assert error["Error"]["Message"] == f"HTTP content length exceeded {size} bytes."

    def test_a_serverless_variant_limits_concurrent_requests(self, harness: HostingHarness) -> None:
        harness.model("one")
        harness.config(
            "one",
            {
                "ModelName": "one",
                "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
            },
        )
        harness.create("one")
        body = harness.wait("one", "InService")
        assert body["ProductionVariants"][0]["CurrentServerlessConfig"]["MaxConcurrency"] == 1
        with harness.runtime() as client:
            active = harness.endpoints.active("one")
            assert active is not None
            with active.borrow():
                code, status, _ = refusal(client.invoke_endpoint, EndpointName="one", Body=b"x")
            assert (code, status) == ("ThrottlingException", 429)
            client.invoke_endpoint(EndpointName="one", Body=b"x")

    def test_invalid_custom_attributes_and_target_models_are_refused(
        self, harness: HostingHarness
    ) -> None:
        harness.serve("one")
        with harness.runtime() as client:
            long = refusal(
                client.invoke_endpoint, EndpointName="one", Body=b"x", CustomAttributes="a" * 1025
            )
            assert long[0] == "ValidationError"
            assert "1024" in long[2]["Error"]["Message"]
            model = refusal(
                client.invoke_endpoint, EndpointName="one", Body=b"x", TargetModel="a.tar.gz"
            )
            assert model[:2] == ("ValidationError", 400)
            assert model[2]["Error"]["Message"] == (
                "Endpoint one is not a multi-model endpoint and does not support target model "
                "header."
            )

    def test_headers_are_checked_as_botocores_model_has_them(self, harness: HostingHarness) -> None:
        harness.serve("one")
        refused = [
            ("EndpointName", "x" * 64, "endpointName"),
            ("EndpointName", "a_b", "endpointName"),
            ("Accept", "a" * 1025, "accept"),
            ("ContentType", "a" * 1025, "contentType"),
            ("CustomAttributes", "\u00e9", "customAttributes"),
            ("InferenceId", "i" * 65, "inferenceId"),
            ("TargetModel", "\u00e9.tar.gz", "targetModel"),
            ("TargetModel", "m" * 1025, "targetModel"),
            ("TargetVariant", "a b", "targetVariant"),
            ("SessionId", "a b", "sessionId"),
            ("InferenceComponentName", "one", "Inference-Component"),
            ("TargetContainerHostname", "one", "Target-Container-Hostname"),
            ("EnableExplanations", "`true`", "Enable-Explanations"),
            ("PrefixAwareId", "one", "Prefix-Aware-Id"),
        ]
        with harness.runtime() as client:
            for member, value, named in refused:
                sent = {"EndpointName": "one", "Body": b"x", member: value}
                code, status, error = refusal(client.invoke_endpoint, **sent)
                assert (code, status) == ("ValidationError", 400), member
                assert named in error["Error"]["Message"]
                assert len(error["Error"]["Message"]) < 600
            client.invoke_endpoint(EndpointName="one", Body=b"x", InferenceId="i" * 64)

    def test_a_container_that_is_too_slow(self, harness: HostingHarness) -> None:
        harness.serve("one")
        with harness.runtime() as client:
            code, status, error = refusal(
                client.invoke_endpoint, EndpointName="one", Body=b"sleep 30"
            )
        assert (code, status, error["OriginalStatusCode"]) == ("ModelError", 424, 0)
        assert error["OriginalMessage"].startswith(
            "Your invocation timed out while waiting for a response from container primary."
        )

    def test_a_container_that_dies_during_a_request(self, harness: HostingHarness) -> None:
        harness.serve("one")
        with harness.runtime() as client:
            code, _, error = refusal(client.invoke_endpoint, EndpointName="one", Body=b"die")
            assert (code, error["OriginalStatusCode"]) == ("ModelError", 0)
            assert "could not get a response" in error["OriginalMessage"]


@process_only
class TestStreams:
    def test_chunks_arrive_before_the_end(self, harness: HostingHarness) -> None:
        harness.serve("one")
        with harness.runtime() as client:
            answer = client.invoke_endpoint_with_response_stream(
                EndpointName="one", Body=b"stream", Accept="text/plain"
            )
            assert answer["ContentType"] == "text/plain"
            assert answer["InvokedProductionVariant"] == "AllTraffic"
            active = harness.endpoints.active("one")
            assert active is not None
            parts, busy = [], []
            for event in answer["Body"]:
                parts.append(event["PayloadPart"]["Bytes"])
                busy.append(active.fleet.in_flight)
            assert parts == [b"one ", b"two ", b"three"]
            assert busy[0] == 1
            harness.until(lambda: active.fleet.in_flight, lambda count: count == 0)

    def test_a_complete_response_can_be_streamed_and_errors_come_first(
        self, harness: HostingHarness
    ) -> None:
        harness.serve("one")
        with harness.runtime() as client:
            call = client.invoke_endpoint_with_response_stream
            body = b"x" * 200_000
            events = call(EndpointName="one", Body=body)["Body"]
            assert b"".join(event["PayloadPart"]["Bytes"] for event in events) == body
            code, status, error = refusal(call, EndpointName="one", Body=b"status 500")
            assert (code, status, error["OriginalStatusCode"]) == ("ModelError", 424, 500)

    def test_a_stream_that_is_interrupted(self, harness: HostingHarness) -> None:
        harness.serve("one")
        with harness.runtime() as client:
            answer = client.invoke_endpoint_with_response_stream(EndpointName="one", Body=b"stream")
            events = iter(answer["Body"])
            next(events)
            harness.kill("one")
            with pytest.raises(EventStreamError) as caught:
                list(events)
            answer["Body"].close()
        assert "ModelStreamError" in str(caught.value)
        assert "broke off" in str(caught.value)


ASYNC: dict[str, Any] = {
    "AsyncInferenceConfig": {
        "OutputConfig": {
            "S3OutputPath": f"s3://{BUCKET}/out",
            "S3FailurePath": f"s3://{BUCKET}/bad",
        }
    }
}


@process_only
class TestAsynchronous:
    def test_responses_and_errors_are_written_to_s3(self, harness: HostingHarness) -> None:
        harness.serve("one", **ASYNC)
        harness.objects.add("in/who", b"who")
        harness.objects.add("in/bad", b"status 500")
        with harness.runtime() as client:
            good = client.invoke_endpoint_async(
                EndpointName="one", InputLocation=f"s3://{BUCKET}/in/who", InferenceId="mine"
            )
            assert good["ResponseMetadata"]["HTTPStatusCode"] == 202
            assert good["InferenceId"] == "mine"
            bad = client.invoke_endpoint_async(
                EndpointName="one", InputLocation=f"s3://{BUCKET}/in/bad"
            )
            inline = client.invoke_endpoint_async(EndpointName="one", Body=b"inline")
            none = client.invoke_endpoint_async(
                EndpointName="one", InputLocation=f"s3://{BUCKET}/in/none"
            )
        assert json.loads(harness.object_at(good["OutputLocation"])) == {"name": "one"}
        assert harness.object_at(inline["OutputLocation"]) == b"inline"
        failure = json.loads(harness.object_at(bad["FailureLocation"]))
        assert (failure["ErrorCode"], failure["OriginalStatusCode"]) == ("ModelError", 500)
        missing = json.loads(harness.object_at(none["FailureLocation"]))
        assert "no object at InputLocation" in missing["Message"]

    def test_an_output_that_cannot_be_written_is_in_the_log(self, harness: HostingHarness) -> None:
        harness.serve(
            "one", AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://nowhere/out"}}
        )
        with harness.runtime() as client:
            sent = client.invoke_endpoint_async(EndpointName="one", Body=b"x")
        key = "/aws/sagemaker/Endpoints/one data-log"
        lines = harness.until(lambda: harness.logs.streams.get(key, []), bool)
        assert lines[0].startswith(f"{sent['OutputLocation']}: ")
        assert "FailureLocation" not in sent

    def test_each_type_of_endpoint_accepts_only_its_own_calls(
        self, harness: HostingHarness
    ) -> None:
        harness.serve("one")
        harness.serve("two", **ASYNC)
        with harness.runtime() as client:
            where = f"s3://{BUCKET}/in"
            for call, request in (
                (client.invoke_endpoint_async, {"EndpointName": "one", "InputLocation": where}),
                (client.invoke_endpoint, {"EndpointName": "two", "Body": b"x"}),
            ):
                code, _, error = refusal(call, **request)
                assert code == "ValidationError"
                assert "does not support this inference type" in error["Error"]["Message"]
            code, _, _ = refusal(
                client.invoke_endpoint_async,
                EndpointName="two",
                InputLocation=where,
                Body=b"x",
            )
            assert code == "ValidationError"
            for elsewhere in ("https://bucket/in", "s3:///in"):
                code, _, error = refusal(
                    client.invoke_endpoint_async, EndpointName="two", InputLocation=elsewhere
                )
                assert code == "ValidationError"
                assert elsewhere in error["Error"]["Message"]

    def test_queued_requests_survive_a_restart(self, harness: HostingHarness) -> None:
        one_at_a_time = {"ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1}}
        output = ASYNC["AsyncInferenceConfig"]
        harness.serve("one", AsyncInferenceConfig={**output, **one_at_a_time})
        harness.objects.add("in/slow", b"sleep 0.5")
        with harness.runtime() as client:
            sent = [
                client.invoke_endpoint_async(
                    EndpointName="one", InputLocation=f"s3://{BUCKET}/in/slow"
                )
                for _ in range(6)
            ]
        harness.endpoints.shutdown()
        assert len(harness.objects.names("out")) < 6
        again = harness.restart()
        try:
            for one in sent:
                assert again.object_at(one["OutputLocation"]) == b"slept"
        finally:
            again.close()


@process_only
class TestVariants:
    def test_weights_and_target_variant(self, harness: HostingHarness) -> None:
        for name in ("blue", "green"):
            harness.model(name)
        harness.config(
            "one",
            {"VariantName": "blue", "ModelName": "blue", "InitialVariantWeight": 3.0},
            {"VariantName": "green", "ModelName": "green", "InitialVariantWeight": 1.0},
        )
        harness.create("one")
        harness.wait("one", "InService")
        with harness.runtime() as client:
            active = harness.endpoints.active("one")
            assert active is not None
            chosen: Counter[str] = Counter()
            for _ in range(400):
                with active.borrow() as (variant, _instance):
                    chosen[variant.name] += 1
            assert 270 <= chosen["blue"] <= 330
            assert set(self.ask(client, 20)) == {"blue", "green"}
            green = client.invoke_endpoint(EndpointName="one", Body=b"who", TargetVariant="green")
            assert json.loads(green["Body"].read()) == {"name": "green"}
            harness.endpoints.update_weights(
                {
                    "EndpointName": "one",
                    "DesiredWeightsAndCapacities": [{"VariantName": "blue", "DesiredWeight": 0}],
                }
            )
            body = harness.wait("one", "InService")
            assert [one["CurrentWeight"] for one in body["ProductionVariants"]] == [0, 1]
            assert self.ask(client, 20) == {"green": 20}

    @staticmethod
    def ask(client: Any, count: int) -> Counter[str]:
        answers = [client.invoke_endpoint(EndpointName="one", Body=b"x") for _ in range(count)]
        return Counter(answer["InvokedProductionVariant"] for answer in answers)


@process_only
def test_data_capture(harness: HostingHarness) -> None:
    harness.serve(
        "one",
        DataCaptureConfig={
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"s3://{BUCKET}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"]},
        },
    )
    shown = harness.body("one")["DataCaptureConfig"]
    assert (shown["CaptureStatus"], shown["CurrentSamplingPercentage"]) == ("Started", 100)
    with harness.runtime() as client:
        client.invoke_endpoint(
            EndpointName="one", Body=b"1,2", ContentType="text/csv", InferenceId="mine"
        )
        client.invoke_endpoint(EndpointName="one", Body=b"\xff", ContentType="image/png")
    keys = harness.until(lambda: harness.objects.names("captured/one/AllTraffic/"), bool)
    assert time.strftime("/%Y/%m/%d/", time.gmtime()) in keys[0]
    assert keys[0].endswith(".jsonl")
    lines = harness.objects.read(BUCKET, keys[0]).splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["captureData"]["endpointInput"] == {
        "observedContentType": "text/csv",
        "mode": "INPUT",
        "data": "1,2",
        "encoding": "CSV",
    }
    assert first["captureData"]["endpointOutput"]["mode"] == "OUTPUT"
    assert first["eventMetadata"]["inferenceId"] == "mine"
    assert first["eventVersion"] == "0"
    assert second["captureData"]["endpointInput"]["data"] == "/w=="
    assert second["captureData"]["endpointInput"]["encoding"] == "BASE64"


@process_only
def test_many_concurrent_invocations(harness: HostingHarness) -> None:
    harness.serve("one")
    answers: list[bytes] = []
    with harness.runtime() as client:

        def ask(number: int) -> None:
            body = f"{number}".encode() * 1000
            answer = client.invoke_endpoint(EndpointName="one", Body=body)["Body"].read()
            answers.append(answer)
            assert answer == body

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 24


@process_only
def test_every_invocation_is_recorded_in_cloudwatch(harness: HostingHarness) -> None:
    harness.serve("one")
    with harness.runtime() as client:
        for body in (b"hello", b"hello"):
            client.invoke_endpoint(EndpointName="one", Body=body)
        for body in (b"status 418", b"status 500", b"sleep 30"):
            refusal(client.invoke_endpoint, EndpointName="one", Body=body)
        stream = client.invoke_endpoint_with_response_stream(EndpointName="one", Body=b"stream")
        list(stream["Body"])
        refusal(client.invoke_endpoint, EndpointName="one", Body=b"x", TargetVariant="none")
    harness.endpoints.metrics.flush()
    total: Counter[str] = Counter()
    slowest = 0.0
    for dimensions, each in harness.logs.statistics:
        assert dimensions == {"EndpointName": "one", "VariantName": "AllTraffic"}
        total[each.name] += each.total  # type: ignore[assignment]
        if each.name == "ModelLatency":
            slowest = max(slowest, each.most)
    assert total["Invocations"] == total["InvocationsPerInstance"] == 6
    assert total["Invocation4XXErrors"] == 1
    assert total["Invocation5XXErrors"] == 2
    assert slowest >= 2_500_000  # microseconds: the request that timed out
    assert 0 < total["OverheadLatency"] < total["ModelLatency"]
