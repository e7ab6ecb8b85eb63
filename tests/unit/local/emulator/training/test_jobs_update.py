"""UpdateTrainingJob, and jobs that one of their rules ends. Their containers are functions."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.emulator.api.operations import OPERATIONS
from local.emulator.errors import ServiceError
from local.emulator.executors import ContainerSpec
from tests.unit.local.emulator.fakes import BUCKET, FakeExecutor
from tests.unit.local.emulator.training_harness import TrainingHarness, build, request

Say = Callable[[str], None]
ROOT: dict[str, Any] = {"S3OutputPath": f"s3://{BUCKET}/profile"}
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


def until_sigterm(_spec: ContainerSpec, _say: Say, sigterm: threading.Event) -> int:
    sigterm.wait(20)
    return 0


def ends_by_rule(spec: ContainerSpec, _say: Say, _sigterm: threading.Event) -> int:
    save(spec, "model/weights", "so far")
    save(spec, "output/data/rules/stopped", "rule fired at step 3")
    return 0


@pytest.fixture
def make_harness(tmp_path: Path) -> Iterator[Callable[[Any], TrainingHarness]]:
    harnesses: list[TrainingHarness] = []

    def build_one(work: Any) -> TrainingHarness:
        harnesses.append(build(tmp_path, FakeExecutor(work)))
        return harnesses[-1]

    yield build_one
    for harness in harnesses:
        harness.close()


def start(harness: TrainingHarness, **changes: Any) -> Path:
    """Create a job, wait until its container runs and return its configuration folder."""
    harness.jobs.create(request(**changes))
    harness.wait(until=lambda body: body["SecondaryStatus"] == "Training")
    executor = harness.context.executor
    assert isinstance(executor, FakeExecutor)
    executor.wait_for_containers(1)
    return executor.specs[0].base / "input" / "config"


def read_configuration(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def change(harness: TrainingHarness, **members: Any) -> None:
    OPERATIONS["UpdateTrainingJob"](harness.services(), {"TrainingJobName": "job", **members})


def refusal(harness: TrainingHarness, **members: Any) -> str:
    with pytest.raises(ServiceError) as caught:
        change(harness, **members)
    assert caught.value.status == 400
    return str(caught.value)


def test_a_rule_that_stops_training_stops_the_job(
    make_harness: Callable[[Any], TrainingHarness],
) -> None:
    harness = make_harness(ends_by_rule)
    body = harness.run(
        DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/debug"}, DebugRuleConfigurations=[RULE]
    )
    assert (body["TrainingJobStatus"], body["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert harness.statuses()[-4:] == ["Training", "Stopping", "Uploading", "Stopped"]
    assert "out/job/output/model.tar.gz" in harness.objects.names()
    assert "FailureReason" not in body


def test_without_rules_the_file_is_ignored(make_harness: Callable[[Any], TrainingHarness]) -> None:
    assert make_harness(ends_by_rule).run()["TrainingJobStatus"] == "Completed"


def test_the_container_reads_the_changed_profiler_configuration(
    make_harness: Callable[[Any], TrainingHarness],
) -> None:
    harness = make_harness(until_sigterm)
    config = start(harness, ProfilerConfig=ROOT)
    assert harness.body()["ProfilingStatus"] == "Enabled"
    change(harness, ProfilerConfig={"ProfilingIntervalInMilliseconds": 1000})
    assert read_configuration(config, "profilerconfig") == {
        **ROOT,
        "ProfilingIntervalInMilliseconds": 1000,
    }
    change(harness, ProfilerRuleConfigurations=[REPORT])
    assert read_configuration(config, "profilerruleconfigurations") == [REPORT]
    (status,) = harness.body()["ProfilerRuleEvaluationStatuses"]
    assert status["RuleEvaluationStatus"] == "InProgress"
    change(harness, ProfilerConfig={"DisableProfiler": True})
    assert read_configuration(config, "profilerconfig")["DisableProfiler"] is True
    assert harness.body()["ProfilingStatus"] == "Disabled"
    assert harness.body()["ProfilerRuleConfigurations"] == [REPORT]
    change(harness, ProfilerConfig={"DisableProfiler": False})
    assert harness.body()["ProfilingStatus"] == "Enabled"
    assert any("profilerconfig.json" in line for line in harness.logs.lines())


def test_a_profiler_enabled_later(
    make_harness: Callable[[Any], TrainingHarness],
) -> None:
    harness = make_harness(until_sigterm)
    config = start(harness)
    assert not (config / "profilerconfig.json").exists()
    change(harness, ProfilerConfig=ROOT)
    assert read_configuration(config, "profilerconfig") == ROOT
    save(shop_spec(harness), "output/profiler/events.json", "{}")
    harness.jobs.stop("job")
    assert harness.wait()["ProfilerConfig"] == ROOT
    assert "profile/job/profiler-output/events.json" in harness.objects.names()


def shop_spec(harness: TrainingHarness) -> ContainerSpec:
    executor = harness.context.executor
    assert isinstance(executor, FakeExecutor)
    return executor.specs[0]


def test_the_keep_alive_time_of_a_warm_pool(make_harness: Callable[[Any], TrainingHarness]) -> None:
    harness = make_harness(until_sigterm)
    resources = request()["ResourceConfig"] | {"KeepAlivePeriodInSeconds": 60}
    start(harness, ResourceConfig=resources)
    change(harness, ResourceConfig={"KeepAlivePeriodInSeconds": 600})
    assert harness.body()["ResourceConfig"] == resources | {"KeepAlivePeriodInSeconds": 600}


def test_members_that_cannot_be_changed_are_named(
    make_harness: Callable[[Any], TrainingHarness],
) -> None:
    harness = make_harness(until_sigterm)
    start(harness, ProfilerConfig=ROOT, ProfilerRuleConfigurations=[REPORT])
    before = harness.body()
    assert "RemoteDebugConfig" in refusal(harness, RemoteDebugConfig={"EnableRemoteDebug": True})
    assert "changes nothing" in refusal(harness)
    assert "is 300; expected" in refusal(
        harness, ProfilerConfig={"ProfilingIntervalInMilliseconds": 300}
    )
    assert "cannot be changed" in refusal(
        harness, ProfilerConfig={"S3OutputPath": f"s3://{BUCKET}/x"}
    )
    assert "ProfilerReport" in refusal(harness, ProfilerRuleConfigurations=[REPORT])
    assert "DisableProfiler" in refusal(
        harness,
        ProfilerConfig={"DisableProfiler": True},
        ProfilerRuleConfigurations=[REPORT | {"RuleConfigurationName": "other"}],
    )
    assert "warm pool" in refusal(harness, ResourceConfig={"KeepAlivePeriodInSeconds": 60})
    assert harness.body() == before
    harness.jobs.stop("job")
    harness.wait()
    assert "is in status Stopped" in refusal(harness, ProfilerConfig={"DisableProfiler": True})
