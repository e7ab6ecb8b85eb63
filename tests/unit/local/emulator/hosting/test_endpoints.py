import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emulator.errors import ServiceError
from local.emulator.executors import Executor
from local.emulator.store import Exists, Kind, Record
from tests.unit.local.emulator.fakes import BUCKET
from tests.unit.local.emulator.hosting_harness import QUICK, HostingHarness, build

process_only = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


@pytest.fixture
def harness(tmp_path: Path, toy_executor: Executor) -> Iterator[HostingHarness]:
    with closing(build(tmp_path, toy_executor)) as harness:
        yield harness


def update(harness: HostingHarness, name: str, config: str, **rest: Any) -> None:
    harness.endpoints.update({"EndpointName": name, "EndpointConfigName": config, **rest})


def who(client: Any, name: str = "one") -> str:
    answer = client.invoke_endpoint(EndpointName=name, Body=b"who")
    return str(json.loads(answer["Body"].read())["name"])


def test_an_endpoint_goes_from_creating_to_in_service_to_deleted(harness: HostingHarness) -> None:
    harness.model("one", Environment={"COLOUR": "blue"})
    harness.config("one", {"ModelName": "one", "InitialInstanceCount": 2})
    harness.create("one", Tags=[{"Key": "team", "Value": "a"}])
    assert harness.body()["EndpointStatus"] == "Creating"
    arn = harness.context.arn(Kind.ENDPOINT, "one")
    assert harness.context.store.tags(arn) == {"team": "a"}
    body = harness.wait("one", "InService", "Failed")
    assert body["EndpointStatus"] == "InService"
    variant = body["ProductionVariants"][0]
    assert variant["VariantName"] == "AllTraffic"
    assert variant["DeployedImages"][0]["SpecifiedImage"] == "toy:latest"
    assert (variant["CurrentWeight"], variant["DesiredWeight"]) == (1.0, 1.0)
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (2, 2)
    assert body["EndpointConfigName"] == "one"
    streams = [name for name in harness.logs.streams if "AllTraffic/i-" in name]
    assert len(streams) == 2
    assert all(name.startswith("/aws/sagemaker/Endpoints/one ") for name in streams)
    assert any("toy: serving ['model.json']" in line for line in harness.logs.lines())
    harness.endpoints.delete("one")
    harness.gone("one")
    assert not harness.context.home.job("endpoint", "one").exists()
    assert harness.endpoints.active("one") is None


def test_the_log_of_a_model_that_does_not_load_is_quoted(harness: HostingHarness) -> None:
    harness.model("one", {"broken": b""})
    harness.config("one", {"ModelName": "one"})
    harness.create("one")
    body = harness.wait("one", "InService", "Failed")
    assert body["EndpointStatus"] == "Failed"
    assert body["FailureReason"] == (
        "The primary container for production variant AllTraffic did not pass the ping health "
        "check: it ended with status 3 before it answered. The end of its log: toy: the "
        "model cannot be loaded: it is broken"
    )
    harness.endpoints.delete("one")
    harness.gone("one")


@process_only
class TestFailures:
    def test_one_broken_variant_fails_the_endpoint_and_all_containers_are_removed(
        self, harness: HostingHarness
    ) -> None:
        harness.model("good", {"slow": b""})
        harness.model("bad", {"broken": b""})
        harness.config(
            "one",
            {"VariantName": "good", "ModelName": "good"},
            {"VariantName": "bad", "ModelName": "bad"},
        )
        harness.create("one")
        body = harness.wait("one", "InService", "Failed")
        assert "production variant bad did not pass" in body["FailureReason"]
        fleets = harness.context.home.job("endpoint", "one") / "fleets"
        harness.until(lambda: list(fleets.iterdir()), lambda left: left == [])

    def test_a_ping_that_is_never_answered_in_time(self, harness: HostingHarness) -> None:
        harness.model("one", {"slow": b""})
        harness.config(
            "one", {"ModelName": "one", "ContainerStartupHealthCheckTimeoutInSeconds": 1}
        )
        harness.create("one")
        body = harness.wait("one", "InService", "Failed")
        assert "/ping answered 503 within 1 seconds" in body["FailureReason"]

    def test_missing_or_corrupt_model_data(self, harness: HostingHarness) -> None:
        harness.model("gone", ModelDataUrl=f"s3://{BUCKET}/nowhere.tar.gz")
        harness.model("torn")
        harness.objects.add("models/torn.tar.gz", b"\x1f\x8b no archive")
        for name, words in (
            ("gone", f"could not find model data at s3://{BUCKET}/nowhere.tar.gz"),
            ("torn", f"s3://{BUCKET}/models/torn.tar.gz: damaged archive"),
        ):
            harness.config(name, {"ModelName": name})
            harness.create(name)
            assert words in harness.wait(name, "InService", "Failed")["FailureReason"]

    def test_an_image_that_cannot_be_run(self, harness: HostingHarness) -> None:
        harness.model("one", Image="other:latest")
        harness.config("one", {"ModelName": "one"})
        harness.create("one")
        body = harness.wait("one", "InService", "Failed")
        assert "The image other:latest of production variant AllTraffic" in body["FailureReason"]

    def test_invalid_requests_are_refused_at_once(self, harness: HostingHarness) -> None:
        def refused(action: Any, *given: Any, **named: Any) -> ServiceError:
            with pytest.raises(ServiceError) as caught:
                action(*given, **named)
            assert caught.value.code == "ValidationException"
            return caught.value

        assert "Could not find endpoint configuration" in str(refused(harness.create, "one"))
        harness.config("no-model", {"ModelName": "none"})
        assert 'Could not find model "arn:' in str(refused(harness.create, "no-model"))
        harness.model("one")
        harness.config("one", {"ModelName": "one"})
        tags = [{"Key": "berth:ttl", "Value": "soon"}]
        assert "berth:ttl is 'soon'" in str(refused(harness.create, "one", Tags=tags))
        assert 'Could not find endpoint "arn:' in str(refused(harness.endpoints.delete, "one"))
        assert harness.context.store.every(Kind.ENDPOINT) == []
        harness.create("one")
        assert "Cannot update in-progress endpoint" in str(refused(harness.endpoints.delete, "one"))
        with pytest.raises(Exists):
            harness.create("one")
        harness.wait("one", "InService")


@process_only
class TestUpdates:
    def test_no_request_fails_during_an_update(self, harness: HostingHarness) -> None:
        harness.serve("one")
        harness.model("two")
        harness.config("two", {"ModelName": "two", "InitialInstanceCount": 2})
        answers: list[str] = []
        done = threading.Event()
        with harness.runtime() as client:

            def load() -> None:
                while not done.is_set():
                    answers.append(who(client))

            threads = [threading.Thread(target=load) for _ in range(3)]
            for thread in threads:
                thread.start()
            harness.until(lambda: len(answers), lambda count: count > 5)
            update(harness, "one", "two")
            body = harness.body()
            assert body["EndpointStatus"] == "Updating"
            assert body["EndpointConfigName"] == "one"
            pending = body["PendingDeploymentSummary"]
            assert pending["EndpointConfigName"] == "two"
            assert pending["ProductionVariants"][0]["DesiredInstanceCount"] == 2
            body = harness.wait("one", "InService")
            seen = len(answers)
            harness.until(lambda: len(answers), lambda count: count > seen + 10)
            done.set()
            for thread in threads:
                thread.join()
        assert body["EndpointConfigName"] == "two"
        assert "PendingDeploymentSummary" not in body
        assert set(answers) == {"one", "two"}
        assert answers[-1] == "two"
        fleets = harness.context.home.job("endpoint", "one") / "fleets"
        harness.until(lambda: len(list(fleets.iterdir())), lambda count: count == 1)

    def test_a_running_request_is_answered_by_the_old_fleet(self, harness: HostingHarness) -> None:
        harness.serve("one")
        harness.model("two")
        harness.config("two", {"ModelName": "two"})
        answers = []
        with harness.runtime() as client:

            def ask() -> None:
                answer = client.invoke_endpoint(EndpointName="one", Body=b"sleep 0.8")
                answers.append(answer["Body"].read())

            thread = threading.Thread(target=ask)
            thread.start()
            active = harness.endpoints.active("one")
            assert active is not None
            harness.until(lambda: active.fleet.in_flight, bool)
            update(harness, "one", "two")
            harness.wait("one", "InService")
            assert who(client) == "two"
            thread.join()
        assert answers == [b"slept"]

    def test_a_broken_update_is_rolled_back(self, harness: HostingHarness) -> None:
        harness.serve("one")
        harness.model("two", {"broken": b""})
        harness.config("two", {"ModelName": "two"})
        update(harness, "one", "two")
        body = harness.wait("one", "InService")
        assert body["EndpointConfigName"] == "one"
        assert body["FailureReason"].startswith("The update was rolled back: The primary container")
        assert "it is broken" in body["FailureReason"]
        with harness.runtime() as client:
            assert who(client) == "one"

    def test_an_asynchronous_endpoint_cannot_become_real_time(
        self, harness: HostingHarness
    ) -> None:
        output = {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}
        harness.serve("one", AsyncInferenceConfig=output)
        harness.config("real-time", {"ModelName": "one"})
        with pytest.raises(ServiceError, match="AsyncInferenceConfig parameter cannot be removed"):
            update(harness, "one", "real-time")
        assert harness.body()["EndpointStatus"] == "InService"
        harness.config("other", {"ModelName": "one"}, AsyncInferenceConfig=output)
        update(harness, "one", "other")
        assert harness.wait("one", "InService")["EndpointConfigName"] == "other"

    def test_weights_and_instance_counts_change_and_are_retained(
        self, harness: HostingHarness
    ) -> None:
        harness.serve("one")
        with pytest.raises(ServiceError, match='Could not find variant "blue"'):
            self.change(harness, VariantName="blue", DesiredWeight=2)
        with pytest.raises(ServiceError, match="every DesiredWeight of the endpoint would be 0"):
            self.change(harness, VariantName="AllTraffic", DesiredWeight=0)
        assert harness.body()["ProductionVariants"][0]["DesiredWeight"] == 1
        self.change(harness, VariantName="AllTraffic", DesiredInstanceCount=3, DesiredWeight=5)
        assert harness.body()["ProductionVariants"][0]["DesiredInstanceCount"] == 3
        variant = harness.wait("one", "InService")["ProductionVariants"][0]
        assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (3, 5)
        harness.model("two")
        harness.config("two", {"ModelName": "two"})
        update(
            harness,
            "one",
            "two",
            RetainAllVariantProperties=True,
            ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredInstanceCount"}],
        )
        variant = harness.wait("one", "InService")["ProductionVariants"][0]
        assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (1, 5)

    def test_additional_containers_that_do_not_start(self, harness: HostingHarness) -> None:
        harness.serve("one")
        shutil.rmtree(harness.context.home.job("endpoint", "one") / "fleets/1/AllTraffic/model")
        self.change(harness, VariantName="AllTraffic", DesiredInstanceCount=3)
        body = harness.wait("one", "InService")
        assert body["FailureReason"].startswith("A container could not be prepared: ")
        variant = body["ProductionVariants"][0]
        assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
        with harness.runtime() as client:
            assert who(client) == "one"

    def test_fewer_containers(self, harness: HostingHarness) -> None:
        harness.model("one")
        harness.config("one", {"ModelName": "one", "InitialInstanceCount": 2})
        harness.create("one")
        harness.wait("one", "InService")
        self.change(harness, VariantName="AllTraffic", DesiredInstanceCount=1)
        variant = harness.wait("one", "InService")["ProductionVariants"][0]
        assert variant["CurrentInstanceCount"] == 1
        with harness.runtime() as client:
            assert who(client) == "one"

    def test_an_endpoint_without_containers_recovers(self, harness: HostingHarness) -> None:
        harness.serve("one")
        self.change(harness, VariantName="AllTraffic", DesiredInstanceCount=0)
        harness.wait("one", "OutOfService")
        with harness.runtime() as client:
            for target in ({}, {"TargetVariant": "AllTraffic"}):
                with pytest.raises(ClientError, match="DesiredInstanceCount is 0 for AllTraffic"):
                    client.invoke_endpoint(EndpointName="one", Body=b"who", **target)
            self.change(harness, VariantName="AllTraffic", DesiredInstanceCount=1)
            harness.wait("one", "InService")
            assert who(client) == "one"

    @staticmethod
    def change(harness: HostingHarness, **variant: Any) -> None:
        harness.endpoints.update_weights(
            {"EndpointName": "one", "DesiredWeightsAndCapacities": [variant]}
        )


def test_a_dead_server_is_restarted_and_the_status_shows_it(harness: HostingHarness) -> None:
    harness.serve("one")
    statuses = Statuses(harness)
    harness.kill("one")
    harness.until(lambda: statuses.seen, lambda seen: "OutOfService" in seen)
    harness.wait("one", "InService")
    statuses.stop()
    assert "FailureReason" not in harness.body()
    assert harness.body()["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    with harness.runtime() as client:
        assert who(client) == "one"
    assert any("starting it again" in line for line in harness.logs.lines())


@process_only
class TestDeaths:
    def test_an_endpoint_with_another_running_container_stays_in_service(
        self, harness: HostingHarness
    ) -> None:
        harness.model("one")
        harness.config("one", {"ModelName": "one", "InitialInstanceCount": 2})
        harness.create("one")
        harness.wait("one", "InService")
        statuses = Statuses(harness)
        counts: list[int] = []

        def count() -> list[int]:
            counts.append(self.count(harness))
            return counts

        harness.kill("one")
        harness.until(count, lambda seen: 1 in seen and seen[-1] == 2)
        statuses.stop()
        assert statuses.seen == {"InService"}

    def test_invocations_fail_until_the_only_container_is_restarted(
        self, tmp_path: Path, toy_executor: Executor
    ) -> None:
        harness = build(tmp_path, toy_executor, timing=replace(QUICK, backoff=30))
        harness.serve("one")
        harness.kill("one")
        body = harness.wait("one", "OutOfService")
        assert "being started again" in body["FailureReason"]
        with (
            harness.runtime() as client,
            pytest.raises(client.exceptions.ServiceUnavailable, match="No container of"),
        ):
            who(client)
        harness.endpoints.delete("one")
        harness.gone("one")
        harness.close()

    @staticmethod
    def count(harness: HostingHarness) -> int:
        return int(harness.body()["ProductionVariants"][0]["CurrentInstanceCount"])


@process_only
class TestRestarts:
    def test_endpoints_are_restored_when_the_server_restarts(self, harness: HostingHarness) -> None:
        harness.serve("one")
        harness.model("bad", {"broken": b""})
        harness.config("bad", {"ModelName": "bad"})
        harness.create("bad")
        harness.wait("bad", "Failed")
        harness.endpoints.shutdown()
        assert harness.body()["EndpointStatus"] == "InService"
        again = harness.restart()
        assert again.body()["EndpointStatus"] in {"SystemUpdating", "InService"}
        again.wait("one", "InService")
        assert again.body("bad")["EndpointStatus"] == "Failed"
        with again.runtime() as client:
            assert who(client) == "one"
        again.close()

    def test_an_interrupted_update_is_completed_after_the_restart(
        self, harness: HostingHarness
    ) -> None:
        harness.serve("one")
        harness.model("two", {"slow": b""})
        harness.config("two", {"ModelName": "two"})
        update(harness, "one", "two")
        harness.endpoints.shutdown()
        assert harness.body()["EndpointStatus"] == "Updating"
        again = harness.restart()
        body = again.wait("one", "InService")
        assert body["EndpointConfigName"] == "two"
        assert "FailureReason" not in body
        again.close()

    def test_an_endpoint_that_cannot_be_restored_fails(self, harness: HostingHarness) -> None:
        harness.serve("one")
        harness.endpoints.shutdown()
        harness.objects.delete(BUCKET, "models/one.tar.gz")
        again = harness.restart()
        body = again.wait("one", "Failed")
        assert "could not find model data" in body["FailureReason"]
        again.close()


@process_only
def test_an_endpoint_with_a_time_to_live_deletes_itself(harness: HostingHarness) -> None:
    harness.model("one")
    harness.config("one", {"ModelName": "one"})
    harness.create("one", Tags=[{"Key": "berth:ttl", "Value": "0.3"}])
    harness.wait("one", "InService")
    harness.gone("one")
    assert harness.endpoints.active("one") is None


def test_a_model_with_network_isolation_is_invoked(harness: HostingHarness) -> None:
    harness.model("one")

    def isolate(record: Record) -> None:
        record.body["EnableNetworkIsolation"] = True

    harness.context.store.update(Kind.MODEL, "one", isolate)
    harness.config("one", {"ModelName": "one"})
    harness.create("one")
    harness.wait("one", "InService")
    with harness.runtime() as client:
        assert who(client) == "one"


class Statuses:
    """Records every status of the endpoint `one` until `stop`."""

    def __init__(self, harness: HostingHarness) -> None:
        self.seen: set[str] = set()
        self._done = threading.Event()
        self._stage = harness
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self.seen.add(self._stage.body()["EndpointStatus"])
            time.sleep(0.002)
