"""UpdateTrainingJob, and jobs that one of their rules ends. Their containers are functions."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.emulator.api.operations.training_update import update
from local.emulator.errors import ServiceError
from local.emulator.executors import ContainerSpec
from tests.unit.local.emulator.parts import BUCKET, Pretender, Workshop, build, request

Say = Callable[[str], None]
ROOT = {"S3OutputPath": f"s3://{BUCKET}/profile"}
RULE = {"RuleConfigurationName": "fired", "RuleEvaluatorImage": "rules:latest"}
REPORT = {
    "RuleConfigurationName": "ProfilerReport",
    "RuleEvaluatorImage": "rules:latest",
    "RuleParameters": {"rule_to_invoke": "ProfilerReport"},
}


def save(spec: ContainerSpec, name: str, text: str) -> None:
    path = spec.base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def until_told(_spec: ContainerSpec, _say: Say, told: threading.Event) -> int:
    told.wait(20)
    return 0


def ends_by_rule(spec: ContainerSpec, _say: Say, _told: threading.Event) -> int:
    save(spec, "model/weights", "so far")
    save(spec, "output/data/rules/stopped", "rule fired at step 3")
    return 0


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[[Any], Workshop]]:
    shops: list[Workshop] = []

    def build_one(work: Any) -> Workshop:
        shops.append(build(tmp_path, Pretender(work)))
        return shops[-1]

    yield build_one
    for shop in shops:
        shop.jobs.shutdown()
        shop.context.store.close()


def start(shop: Workshop, **changes: Any) -> Path:
    """Create a job, wait until its container runs; its configuration's folder."""
    shop.jobs.create(request(**changes))
    shop.wait(until=lambda body: body["SecondaryStatus"] == "Training")
    executor = shop.context.executor
    assert isinstance(executor, Pretender)
    deadline = time.monotonic() + 10
    while not executor.running:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return executor.specs[0].base / "input" / "config"


def told(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def change(shop: Workshop, **members: Any) -> None:
    update(shop.services(), {"TrainingJobName": "job", **members})


def refusal(shop: Workshop, **members: Any) -> str:
    with pytest.raises(ServiceError) as caught:
        change(shop, **members)
    assert caught.value.status == 400
    return str(caught.value)


def test_a_rule_that_stops_training_stops_the_job(open_shop: Callable[[Any], Workshop]) -> None:
    shop = open_shop(ends_by_rule)
    body = shop.run(
        DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/debug"}, DebugRuleConfigurations=[RULE]
    )
    assert (body["TrainingJobStatus"], body["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert shop.statuses()[-4:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert "out/job/output/model.tar.gz" in shop.objects.names()
    assert "FailureReason" not in body


def test_without_rules_a_file_says_nothing(open_shop: Callable[[Any], Workshop]) -> None:
    assert open_shop(ends_by_rule).run()["TrainingJobStatus"] == "Completed"


def test_the_container_finds_the_changed_profiler(open_shop: Callable[[Any], Workshop]) -> None:
    shop = open_shop(until_told)
    config = start(shop, ProfilerConfig=ROOT)
    assert shop.body()["ProfilingStatus"] == "Enabled"
    change(shop, ProfilerConfig={"ProfilingIntervalInMilliseconds": 1000})
    assert told(config, "profilerconfig") == {**ROOT, "ProfilingIntervalInMilliseconds": 1000}
    change(shop, ProfilerRuleConfigurations=[REPORT])
    assert told(config, "profilerruleconfigurations") == [REPORT]
    (status,) = shop.body()["ProfilerRuleEvaluationStatuses"]
    assert status["RuleEvaluationStatus"] == "InProgress"
    change(shop, ProfilerConfig={"DisableProfiler": True})
    assert told(config, "profilerconfig")["DisableProfiler"] is True
    assert shop.body()["ProfilingStatus"] == "Disabled"
    assert shop.body()["ProfilerRuleConfigurations"] == [REPORT]
    change(shop, ProfilerConfig={"DisableProfiler": False})
    assert shop.body()["ProfilingStatus"] == "Enabled"
    assert any("profilerconfig.json is new" in line for line in shop.logs.lines())


def test_a_profiler_nobody_asked_for_at_first(open_shop: Callable[[Any], Workshop]) -> None:
    shop = open_shop(until_told)
    config = start(shop)
    assert not (config / "profilerconfig.json").exists()
    change(shop, ProfilerConfig=ROOT)
    assert told(config, "profilerconfig") == ROOT
    save(shop_spec(shop), "output/profiler/events.json", "{}")
    shop.jobs.stop("job")
    assert shop.wait()["ProfilerConfig"] == ROOT
    assert "profile/job/profiler-output/events.json" in shop.objects.names()


def shop_spec(shop: Workshop) -> ContainerSpec:
    executor = shop.context.executor
    assert isinstance(executor, Pretender)
    return executor.specs[0]


def test_a_warm_pools_time(open_shop: Callable[[Any], Workshop]) -> None:
    shop = open_shop(until_told)
    resources = request()["ResourceConfig"] | {"KeepAlivePeriodInSeconds": 60}
    start(shop, ResourceConfig=resources)
    change(shop, ResourceConfig={"KeepAlivePeriodInSeconds": 600})
    assert shop.body()["ResourceConfig"] == resources | {"KeepAlivePeriodInSeconds": 600}


def test_what_cannot_be_changed_is_named(open_shop: Callable[[Any], Workshop]) -> None:
    shop = open_shop(until_told)
    start(shop, ProfilerConfig=ROOT, ProfilerRuleConfigurations=[REPORT])
    before = shop.body()
    assert "RemoteDebugConfig" in refusal(shop, RemoteDebugConfig={"EnableRemoteDebug": True})
    assert "changes nothing" in refusal(shop)
    assert "is 300; expected" in refusal(
        shop, ProfilerConfig={"ProfilingIntervalInMilliseconds": 300}
    )
    assert "writes already" in refusal(shop, ProfilerConfig={"S3OutputPath": f"s3://{BUCKET}/x"})
    assert "ProfilerReport" in refusal(shop, ProfilerRuleConfigurations=[REPORT])
    assert "DisableProfiler" in refusal(
        shop,
        ProfilerConfig={"DisableProfiler": True},
        ProfilerRuleConfigurations=[REPORT | {"RuleConfigurationName": "other"}],
    )
    assert "warm pool" in refusal(shop, ResourceConfig={"KeepAlivePeriodInSeconds": 60})
    assert shop.body() == before
    shop.jobs.stop("job")
    shop.wait()
    assert "is in status Stopped" in refusal(shop, ProfilerConfig={"DisableProfiler": True})
