import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.emulator.errors import ServiceError
from local.emulator.executors import Executor
from local.emulator.store import Kind, Record
from tests.unit.local.emulator.hosting_stage import QUICK, Stage, build
from tests.unit.local.emulator.parts import BUCKET

process_only = pytest.mark.parametrize("toy_executor", ["process"], indirect=True)


@pytest.fixture
def stage(tmp_path: Path, toy_executor: Executor) -> Iterator[Stage]:
    stage = build(tmp_path, toy_executor)
    yield stage
    stage.endpoints.shutdown()
    stage.context.store.close()


def update(stage: Stage, name: str, config: str, **rest: Any) -> None:
    stage.endpoints.update({"EndpointName": name, "EndpointConfigName": config, **rest})


def who(client: Any, name: str = "one") -> str:
    answer = client.invoke_endpoint(EndpointName=name, Body=b"who")
    return str(json.loads(answer["Body"].read())["name"])


def test_from_creating_to_in_service_to_gone(stage: Stage) -> None:
    stage.model("one", Environment={"COLOUR": "blue"})
    stage.config("one", {"ModelName": "one", "InitialInstanceCount": 2})
    stage.create("one", Tags=[{"Key": "team", "Value": "a"}])
    assert stage.body()["EndpointStatus"] == "Creating"
    arn = stage.context.arn(Kind.ENDPOINT, "one")
    assert stage.context.store.tags(arn) == {"team": "a"}
    body = stage.wait("one", "InService", "Failed")
    assert body["EndpointStatus"] == "InService"
    variant = body["ProductionVariants"][0]
    assert variant["VariantName"] == "AllTraffic"
    assert variant["DeployedImages"][0]["SpecifiedImage"] == "toy:latest"
    assert (variant["CurrentWeight"], variant["DesiredWeight"]) == (1.0, 1.0)
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (2, 2)
    assert body["EndpointConfigName"] == "one"
    streams = [name for name in stage.logs.streams if "AllTraffic/i-" in name]
    assert len(streams) == 2
    assert all(name.startswith("/aws/sagemaker/Endpoints/one ") for name in streams)
    assert any("toy: serving ['model.json']" in line for line in stage.logs.lines())
    stage.endpoints.delete("one")
    stage.gone("one")
    assert not stage.context.home.job("endpoint", "one").exists()
    assert stage.endpoints.live("one") is None


def test_a_model_that_does_not_load_says_its_last_words(stage: Stage) -> None:
    stage.model("one", {"broken": b""})
    stage.config("one", {"ModelName": "one"})
    stage.create("one")
    body = stage.wait("one", "InService", "Failed")
    assert body["EndpointStatus"] == "Failed"
    assert body["FailureReason"] == (
        "The primary container for production variant AllTraffic did not pass the ping health "
        "check: it ended with status 3 before it answered. Its last words: toy: the model cannot "
        "be loaded: it is broken"
    )
    stage.endpoints.delete("one")
    stage.gone("one")


@process_only
class TestFailures:
    def test_one_broken_variant_fails_all_and_nothing_is_left(self, stage: Stage) -> None:
        stage.model("good", {"slow": b""})
        stage.model("bad", {"broken": b""})
        stage.config(
            "one",
            {"VariantName": "good", "ModelName": "good"},
            {"VariantName": "bad", "ModelName": "bad"},
        )
        stage.create("one")
        body = stage.wait("one", "InService", "Failed")
        assert "production variant bad did not pass" in body["FailureReason"]
        fleets = stage.context.home.job("endpoint", "one") / "fleets"
        stage.until(lambda: list(fleets.iterdir()), lambda left: left == [])

    def test_ping_that_never_answers_in_time(self, stage: Stage) -> None:
        stage.model("one", {"slow": b""})
        stage.config("one", {"ModelName": "one", "ContainerStartupHealthCheckTimeoutInSeconds": 1})
        stage.create("one")
        body = stage.wait("one", "InService", "Failed")
        assert "/ping answered 503 within 1 seconds" in body["FailureReason"]

    def test_model_data_that_is_missing_or_corrupt(self, stage: Stage) -> None:
        stage.model("gone", ModelDataUrl=f"s3://{BUCKET}/nowhere.tar.gz")
        stage.model("torn")
        stage.objects.add("models/torn.tar.gz", b"\x1f\x8b no archive")
        for name, words in (
            ("gone", f"could not find model data at s3://{BUCKET}/nowhere.tar.gz"),
            ("torn", f"s3://{BUCKET}/models/torn.tar.gz is not a whole gzip-compressed tar"),
        ):
            stage.config(name, {"ModelName": name})
            stage.create(name)
            assert words in stage.wait(name, "InService", "Failed")["FailureReason"]

    def test_an_image_that_cannot_be_run(self, stage: Stage) -> None:
        stage.model("one", Image="other:latest")
        stage.config("one", {"ModelName": "one"})
        stage.create("one")
        body = stage.wait("one", "InService", "Failed")
        assert "The image other:latest of production variant AllTraffic" in body["FailureReason"]

    def test_what_is_refused_at_once(self, stage: Stage) -> None:
        def refused(action: Any, *given: Any, **named: Any) -> ServiceError:
            with pytest.raises(ServiceError) as caught:
                action(*given, **named)
            assert caught.value.code == "ValidationException"
            return caught.value

        assert "Could not find endpoint configuration" in str(refused(stage.create, "one"))
        stage.config("no-model", {"ModelName": "none"})
        assert 'Could not find model "arn:' in str(refused(stage.create, "no-model"))
        container = {"Image": "toy:latest"}
        stage.context.store.add(
            Kind.MODEL, "two", "arn:two", {"Containers": [container, container]}
        )
        stage.config("two", {"ModelName": "two"})
        assert "pipelines of several containers" in str(refused(stage.create, "two"))
        stage.model("many", Mode="MultiModel")
        stage.config("many", {"ModelName": "many"})
        assert "MultiModel" in str(refused(stage.create, "many"))
        stage.model("one")
        stage.config("one", {"ModelName": "one"})
        tags = [{"Key": "berth:ttl", "Value": "soon"}]
        assert "berth:ttl is 'soon'" in str(refused(stage.create, "one", Tags=tags))
        assert 'Could not find endpoint "arn:' in str(refused(stage.endpoints.delete, "one"))
        assert stage.context.store.every(Kind.ENDPOINT) == []
        stage.create("one")
        assert "Cannot update in-progress endpoint" in str(refused(stage.endpoints.delete, "one"))
        with pytest.raises(ServiceError) as caught:
            stage.create("one")
        assert caught.value.code == "ResourceInUse"
        stage.wait("one", "InService")


@process_only
class TestUpdates:
    def test_no_request_fails_while_traffic_moves(self, stage: Stage) -> None:
        stage.serve("one")
        stage.model("two")
        stage.config("two", {"ModelName": "two", "InitialInstanceCount": 2})
        answers: list[str] = []
        done = threading.Event()
        with stage.runtime() as client:

            def load() -> None:
                while not done.is_set():
                    answers.append(who(client))

            threads = [threading.Thread(target=load) for _ in range(3)]
            for thread in threads:
                thread.start()
            stage.until(lambda: len(answers), lambda count: count > 5)
            update(stage, "one", "two")
            body = stage.body()
            assert body["EndpointStatus"] == "Updating"
            assert body["EndpointConfigName"] == "one"
            pending = body["PendingDeploymentSummary"]
            assert pending["EndpointConfigName"] == "two"
            assert pending["ProductionVariants"][0]["DesiredInstanceCount"] == 2
            body = stage.wait("one", "InService")
            seen = len(answers)
            stage.until(lambda: len(answers), lambda count: count > seen + 10)
            done.set()
            for thread in threads:
                thread.join()
        assert body["EndpointConfigName"] == "two"
        assert "PendingDeploymentSummary" not in body
        assert set(answers) == {"one", "two"}
        assert answers[-1] == "two"
        fleets = stage.context.home.job("endpoint", "one") / "fleets"
        stage.until(lambda: len(list(fleets.iterdir())), lambda count: count == 1)

    def test_a_request_in_flight_is_answered_by_the_old_fleet(self, stage: Stage) -> None:
        stage.serve("one")
        stage.model("two")
        stage.config("two", {"ModelName": "two"})
        answers = []
        with stage.runtime() as client:

            def ask() -> None:
                answer = client.invoke_endpoint(EndpointName="one", Body=b"sleep 0.8")
                answers.append(answer["Body"].read())

            thread = threading.Thread(target=ask)
            thread.start()
            live = stage.endpoints.live("one")
            assert live is not None
            stage.until(lambda: live.fleet.in_flight, bool)
            update(stage, "one", "two")
            stage.wait("one", "InService")
            assert who(client) == "two"
            thread.join()
        assert answers == [b"slept"]

    def test_a_broken_update_is_rolled_back(self, stage: Stage) -> None:
        stage.serve("one")
        stage.model("two", {"broken": b""})
        stage.config("two", {"ModelName": "two"})
        update(stage, "one", "two")
        body = stage.wait("one", "InService")
        assert body["EndpointConfigName"] == "one"
        assert body["FailureReason"].startswith("The update was rolled back: The primary container")
        assert "it is broken" in body["FailureReason"]
        with stage.runtime() as client:
            assert who(client) == "one"

    def test_weights_and_counts_change_and_are_retained(self, stage: Stage) -> None:
        stage.serve("one")
        with pytest.raises(ServiceError, match='Could not find variant "blue"'):
            self.change(stage, VariantName="blue", DesiredWeight=2)
        self.change(stage, VariantName="AllTraffic", DesiredInstanceCount=3, DesiredWeight=5)
        assert stage.body()["ProductionVariants"][0]["DesiredInstanceCount"] == 3
        variant = stage.wait("one", "InService")["ProductionVariants"][0]
        assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (3, 5)
        stage.model("two")
        stage.config("two", {"ModelName": "two"})
        update(
            stage,
            "one",
            "two",
            RetainAllVariantProperties=True,
            ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredInstanceCount"}],
        )
        variant = stage.wait("one", "InService")["ProductionVariants"][0]
        assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (1, 5)

    def test_more_containers_that_do_not_come_up(self, stage: Stage) -> None:
        stage.serve("one")
        shutil.rmtree(stage.context.home.job("endpoint", "one") / "fleets/1/AllTraffic/model")
        self.change(stage, VariantName="AllTraffic", DesiredInstanceCount=3)
        body = stage.wait("one", "InService")
        assert body["FailureReason"].startswith("A container could not be prepared: ")
        variant = body["ProductionVariants"][0]
        assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
        with stage.runtime() as client:
            assert who(client) == "one"

    def test_fewer_containers(self, stage: Stage) -> None:
        stage.model("one")
        stage.config("one", {"ModelName": "one", "InitialInstanceCount": 2})
        stage.create("one")
        stage.wait("one", "InService")
        self.change(stage, VariantName="AllTraffic", DesiredInstanceCount=1)
        variant = stage.wait("one", "InService")["ProductionVariants"][0]
        assert variant["CurrentInstanceCount"] == 1
        with stage.runtime() as client:
            assert who(client) == "one"

    @staticmethod
    def change(stage: Stage, **variant: Any) -> None:
        stage.endpoints.update_weights(
            {"EndpointName": "one", "DesiredWeightsAndCapacities": [variant]}
        )


def test_a_dead_server_is_started_again_and_the_status_tells(stage: Stage) -> None:
    stage.serve("one")
    statuses = Statuses(stage)
    stage.kill("one")
    stage.until(lambda: statuses.seen, lambda seen: "OutOfService" in seen)
    stage.wait("one", "InService")
    statuses.stop()
    assert "FailureReason" not in stage.body()
    assert stage.body()["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    with stage.runtime() as client:
        assert who(client) == "one"
    assert any("starting it again" in line for line in stage.logs.lines())


@process_only
class TestDeaths:
    def test_while_another_answers_it_stays_in_service(self, stage: Stage) -> None:
        stage.model("one")
        stage.config("one", {"ModelName": "one", "InitialInstanceCount": 2})
        stage.create("one")
        stage.wait("one", "InService")
        statuses = Statuses(stage)
        counts = []
        stage.kill("one")
        stage.until(
            lambda: counts.append(self.count(stage)) or counts,
            lambda seen: 1 in seen and seen[-1] == 2,
        )
        statuses.stop()
        assert statuses.seen == {"InService"}

    def test_nobody_answers_meanwhile(self, tmp_path: Path, toy_executor: Executor) -> None:
        stage = build(tmp_path, toy_executor, timing=replace(QUICK, backoff=30))
        stage.serve("one")
        stage.kill("one")
        body = stage.wait("one", "OutOfService")
        assert "being started again" in body["FailureReason"]
        with (
            stage.runtime() as client,
            pytest.raises(client.exceptions.ServiceUnavailable, match="No container of"),
        ):
            who(client)
        stage.endpoints.delete("one")
        stage.gone("one")
        stage.endpoints.shutdown()
        stage.context.store.close()

    @staticmethod
    def count(stage: Stage) -> int:
        return int(stage.body()["ProductionVariants"][0]["CurrentInstanceCount"])


@process_only
class TestRestarts:
    def test_endpoints_come_back_with_the_server(self, stage: Stage) -> None:
        stage.serve("one")
        stage.model("bad", {"broken": b""})
        stage.config("bad", {"ModelName": "bad"})
        stage.create("bad")
        stage.wait("bad", "Failed")
        stage.endpoints.shutdown()
        assert stage.body()["EndpointStatus"] == "InService"
        again = stage.restart()
        assert again.body()["EndpointStatus"] in {"SystemUpdating", "InService"}
        again.wait("one", "InService")
        assert again.body("bad")["EndpointStatus"] == "Failed"
        with again.runtime() as client:
            assert who(client) == "one"
        again.endpoints.shutdown()
        again.context.store.close()

    def test_an_update_cut_short_is_made_after_the_restart(self, stage: Stage) -> None:
        stage.serve("one")
        stage.model("two", {"slow": b""})
        stage.config("two", {"ModelName": "two"})
        update(stage, "one", "two")
        stage.endpoints.shutdown()
        assert stage.body()["EndpointStatus"] == "Updating"
        again = stage.restart()
        body = again.wait("one", "InService")
        assert body["EndpointConfigName"] == "two"
        assert "FailureReason" not in body
        again.endpoints.shutdown()
        again.context.store.close()

    def test_what_cannot_come_back_fails(self, stage: Stage) -> None:
        stage.serve("one")
        stage.endpoints.shutdown()
        stage.objects.delete(BUCKET, "models/one.tar.gz")
        again = stage.restart()
        body = again.wait("one", "Failed")
        assert "could not find model data" in body["FailureReason"]
        again.endpoints.shutdown()
        again.context.store.close()


@process_only
def test_an_endpoint_with_a_time_to_live_deletes_itself(stage: Stage) -> None:
    stage.model("one")
    stage.config("one", {"ModelName": "one"})
    stage.create("one", Tags=[{"Key": "berth:ttl", "Value": "0.3"}])
    stage.wait("one", "InService")
    stage.gone("one")
    assert stage.endpoints.live("one") is None


def test_a_model_cut_off_from_the_network_answers_all_the_same(stage: Stage) -> None:
    stage.model("one")

    def isolate(record: Record) -> None:
        record.body["EnableNetworkIsolation"] = True

    stage.context.store.update(Kind.MODEL, "one", isolate)
    stage.config("one", {"ModelName": "one"})
    stage.create("one")
    stage.wait("one", "InService")
    with stage.runtime() as client:
        assert who(client) == "one"


class Statuses:
    """Every status the endpoint `one` shows, watched until `stop`."""

    def __init__(self, stage: Stage) -> None:
        self.seen: set[str] = set()
        self._done = threading.Event()
        self._stage = stage
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self.seen.add(self._stage.body()["EndpointStatus"])
            time.sleep(0.002)
