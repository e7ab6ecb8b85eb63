import json
import re
from datetime import UTC, datetime
from typing import Any

from botocore.session import get_session
from botocore.validate import validate_parameters

from local.emulator.store import Kind, Record
from local.emulator.tuning.plan import read
from local.emulator.tuning.ranges import Value
from local.emulator.tuning.trials import TuningTrial, facts, fresh, load, summary, training_request
from tests.training_requests import channel
from tests.unit.local.emulator.tuning_harness import METRIC, tuning_request

FULL = {
    "DefinitionName": "toy",
    "InputDataConfig": [channel("train", "s3://bucket/d")],
    "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    "EnableNetworkIsolation": True,
    "EnableInterContainerTrafficEncryption": True,
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 90},
    "CheckpointConfig": {"S3Uri": "s3://bucket/checkpoints/", "LocalPath": "/opt/ml/checkpoints"},
    "RetryStrategy": {"MaximumRetryAttempts": 2},
    "Environment": {"A": "b"},
}
MIXED = {
    "IntegerParameterRanges": [{"Name": "epochs", "MinValue": "1", "MaxValue": "9"}],
    "ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0", "MaxValue": "1"}],
    "CategoricalParameterRanges": [{"Name": "arch", "Values": ['"resnet18"']}],
}
VALUES: dict[str, Value] = {"epochs": 3, "rate": 0.1, "arch": '"resnet18"'}


def shape(name: str) -> Any:
    return get_session().get_service_model("sagemaker").shape_for(name)


def test_every_field_of_the_definition_reaches_the_training_job() -> None:
    request = tuning_request(
        ranges=MIXED,
        definition={**FULL, "StaticHyperParameters": {"seed": "1"}},
        Tags=[{"Key": "k", "Value": "v"}],
    )
    trial = TuningTrial(4, "job-005-0123abcd", dict(VALUES))
    made = training_request(read(request), trial)
    validate_parameters(made, shape("CreateTrainingJobRequest"))
    assert made["TrainingJobName"] == "job-005-0123abcd"
    assert made["HyperParameters"] == {
        "seed": "1",
        "epochs": "3",
        "rate": "0.1",
        "arch": '"resnet18"',
        "_tuning_objective_metric": METRIC,
    }
    assert made["CheckpointConfig"] == {
        "S3Uri": "s3://bucket/checkpoints/job-005-0123abcd",
        "LocalPath": "/opt/ml/checkpoints",
    }
    assert made["Tags"] == [{"Key": "k", "Value": "v"}]
    definition = request["TrainingJobDefinition"]
    changed = {"StaticHyperParameters", "CheckpointConfig", "DefinitionName"}
    for key in definition.keys() - changed:
        assert made[key] == definition[key]


def test_no_field_of_the_definition_is_forgotten() -> None:
    """Every member in the API's model is copied, converted, or refused earlier."""
    handled = {
        "DefinitionName",
        "TuningObjective",
        "HyperParameterRanges",
        "StaticHyperParameters",
        "HyperParameterTuningResourceConfig",
    }
    plan = read(tuning_request(definition={**FULL}))
    made = training_request(plan, TuningTrial(0, "job-001-00000000", {"rate": 0.1}))
    members = shape("HyperParameterTrainingJobDefinition").members.keys()
    assert members - handled <= made.keys()


def test_a_request_shares_nothing_with_the_next() -> None:
    plan = read(tuning_request())
    first = training_request(plan, TuningTrial(0, "a", {"rate": 0.1}))
    first["ResourceConfig"]["InstanceCount"] = 9
    assert (
        training_request(plan, TuningTrial(1, "b", {"rate": 0.1}))["ResourceConfig"][
            "InstanceCount"
        ]
        == 1
    )


def test_names_have_sagemakers_format() -> None:
    name = "a" * 32
    plan = read(tuning_request(name))
    names = [fresh(plan, number, number, {}).name for number in (0, 41, 1041)]
    assert [
        bool(re.fullmatch(f"{name}-{n}-[0-9a-f]{{8}}", each))
        for n, each in zip(("001", "042", "1042"), names, strict=True)
    ] == [True, True, True]
    assert max(len(each) for each in names) <= 63


def test_a_trial_round_trips_through_json() -> None:
    trial = TuningTrial(3, "n", dict(VALUES), "Stopped", "median", [0.5, 0.25], False, 12.5)
    assert load(json.loads(json.dumps([trial.stored()]))) == [trial]


def test_the_objective_that_the_search_uses() -> None:
    def known(status: str | None, stopped_by: str | None = None, *reports: float) -> object:
        trial = TuningTrial(0, "n", {}, status, stopped_by, list(reports))  # type: ignore[arg-type]
        return trial.known().state, trial.objective, trial.objective_status

    assert known(None, None, 0.5) == ("running", None, "Pending")
    assert known("Completed", None, 0.5, 0.4) == ("complete", 0.4, "Succeeded")
    assert known("Completed") == ("failed", None, "Failed")
    assert known("Failed", None, 0.5) == ("failed", None, "Failed")
    assert known("Stopped", "median", 0.5) == ("pruned", 0.5, "Succeeded")
    assert known("Stopped", None, 0.5) == ("pruned", 0.5, "Succeeded")
    assert known("Stopped", "resource", 0.5) == ("complete", 0.5, "Succeeded")
    assert known("Stopped", "median") == ("failed", None, "Failed")
    assert known("Completed", None, float("inf")) == ("failed", None, "Failed")


def test_summaries_have_the_apis_shape() -> None:
    plan = read(tuning_request(definition={"DefinitionName": "toy"}))
    now = datetime.now(UTC)
    job = Record(
        Kind.TRAINING_JOB,
        "job-001-00000000",
        "arn:aws:sagemaker:us-east-1:123456789012:training-job/job-001-00000000",
        now,
        now,
        {
            "CreationTime": now,
            "TrainingStartTime": now,
            "TrainingEndTime": now,
            "TrainingJobStatus": "Completed",
        },
        {"tuning": facts(plan, TuningTrial(0, "n", {"rate": 0.25}, "Completed", None, [0.5]))},
    )
    made = summary(job)
    validate_parameters(made, shape("HyperParameterTrainingJobSummary"))
    assert made.keys() <= shape("HyperParameterTrainingJobSummary").members.keys()
    assert made["TunedHyperParameters"] == {"rate": "0.25"}
    assert made["TrainingJobDefinitionName"] == "toy"
    assert made["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.5
    running = Record(Kind.TRAINING_JOB, "n", job.arn, now, now, {"TrainingJobStatus": "InProgress"})
    assert summary(running)["ObjectiveStatus"] == "Pending"
