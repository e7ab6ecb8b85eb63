from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.requests.hosting import Hosting, Scaling, Serverless, schedule
from local.requests.prices import lines, maximum_costs

RESOURCES = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 10}
TRAINING: dict[str, Any] = {
    "TrainingJobName": "job",
    "ResourceConfig": RESOURCES,
    "StoppingCondition": {"MaxRuntimeInSeconds": 7200},
}
HOSTING = Hosting(
    name="flowers",
    image_uri="i",
    model_data="s3://b/m.tar.gz",
    role="arn:aws:iam::123456789012:role/berth",
    stamp="1",
)


def tuning(**limits: int) -> dict[str, Any]:
    return {
        "HyperParameterTuningJobName": "search",
        "HyperParameterTuningJobConfig": {
            "ResourceLimits": {"MaxParallelTrainingJobs": 2, **limits}
        },
        "TrainingJobDefinition": {
            "ResourceConfig": RESOURCES,
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        },
    }


def test_training_is_price_times_instances_times_runtime() -> None:
    (cost,) = maximum_costs([("CreateTrainingJob", TRAINING)])
    assert cost.usd == pytest.approx(0.23 * 2 * 2)
    assert cost.detail == "2 x ml.m5.xlarge at 0.23 USD/h for at most 2 h"


def test_the_spot_price_is_at_most_the_on_demand_price() -> None:
    (cost,) = maximum_costs([("CreateTrainingJob", TRAINING | {"EnableManagedSpotTraining": True})])
    assert cost.usd == pytest.approx(0.92)
    assert "spot" in cost.detail


def test_without_a_limit_a_job_may_run_for_a_day() -> None:
    request = {"TrainingJobName": "job", "ResourceConfig": RESOURCES}
    (cost,) = maximum_costs([("CreateTrainingJob", request)])
    assert cost.usd == pytest.approx(0.23 * 2 * 24)


def test_a_warm_pool_is_billed_while_it_waits() -> None:
    request = TRAINING | {"ResourceConfig": RESOURCES | {"KeepAlivePeriodInSeconds": 3600}}
    (cost,) = maximum_costs([("CreateTrainingJob", request)])
    assert cost.usd == pytest.approx(0.23 * 2 * 3)


def test_instance_groups_are_added() -> None:
    groups = [
        {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "InstanceGroupName": "a"},
        {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "InstanceGroupName": "b"},
    ]
    request = TRAINING | {"ResourceConfig": {"InstanceGroups": groups}}
    (cost,) = maximum_costs([("CreateTrainingJob", request)])
    assert cost.usd == pytest.approx((0.23 + 1.408) * 2)


def test_tuning_costs_all_its_jobs() -> None:
    (cost,) = maximum_costs([("CreateHyperParameterTuningJob", tuning(MaxNumberOfTrainingJobs=8))])
    assert cost.usd == pytest.approx(0.23 * 2 * 8)


def test_a_grid_costs_all_its_combinations() -> None:
    request = tuning()
    request["HyperParameterTuningJobConfig"] |= {
        "Strategy": "Grid",
        "ParameterRanges": {
            "CategoricalParameterRanges": [{"Values": ["1", "2"]}, {"Values": ["3", "4", "5"]}]
        },
    }
    (cost,) = maximum_costs([("CreateHyperParameterTuningJob", request)])
    assert cost.usd == pytest.approx(0.23 * 2 * 6)


def test_tuning_ends_with_its_own_time_limit() -> None:
    limits = {"MaxNumberOfTrainingJobs": 8, "MaxRuntimeInSeconds": 1800}
    (cost,) = maximum_costs([("CreateHyperParameterTuningJob", tuning(**limits))])
    assert cost.usd == pytest.approx(0.23 * 2 * 0.5 * 2)
    limits["MaxRuntimeInSeconds"] = 10**6
    (cost,) = maximum_costs([("CreateHyperParameterTuningJob", tuning(**limits))])
    assert cost.usd == pytest.approx(0.23 * 2 * 8)


def test_an_unknown_price_is_never_zero() -> None:
    request = TRAINING | {
        "ResourceConfig": {"InstanceType": "ml.p9.huge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    }
    costs = maximum_costs([("CreateTrainingJob", request), ("CreateTrainingJob", TRAINING)])
    assert costs[0].usd is None
    said = lines(costs)
    assert said[0].startswith("training job job: unknown (the price of ml.p9.huge is unknown")
    assert not any(line.startswith("total") for line in said)
    wide = tuning(MaxNumberOfTrainingJobs=8)
    wide["TrainingJobDefinition"]["ResourceConfig"] = request["ResourceConfig"]
    (cost,) = maximum_costs([("CreateHyperParameterTuningJob", wide)])
    assert cost.usd is None


def test_an_endpoint_costs_until_it_is_deleted() -> None:
    (cost,) = maximum_costs(
        [
            ("CreateEndpointConfig", HOSTING.endpoint_config()),
            ("CreateEndpoint", HOSTING.endpoint()),
        ]
    )
    assert cost.usd == pytest.approx(0.115 * 730)
    assert cost.detail == (
        "1 x ml.m5.large at 0.115 USD/h: 0.115 USD an hour, 2.76 a day, 83.95 a month, "
        "until it is deleted"
    )


def test_an_endpoint_with_a_time_to_live_costs_until_then() -> None:
    config = ("CreateEndpointConfig", HOSTING.endpoint_config())
    tagged = ("CreateEndpoint", HOSTING.endpoint(timedelta(hours=2)))
    (cost,) = maximum_costs([config, tagged])
    assert cost.usd == pytest.approx(0.23)
    ends = datetime.now(UTC) + timedelta(hours=2)
    scheduled = ("CreateSchedule", schedule("flowers", ends, HOSTING.role))
    (cost,) = maximum_costs([config, scheduled, ("CreateEndpoint", HOSTING.endpoint())])
    assert cost.usd == pytest.approx(0.23, rel=0.01)


def test_autoscaling_counts_its_maximum() -> None:
    target = ("RegisterScalableTarget", Scaling(1, 4, 100).target("flowers"))
    (cost,) = maximum_costs([("CreateEndpointConfig", HOSTING.endpoint_config()), target])
    assert cost.usd == pytest.approx(0.115 * 4 * 730)


def test_serverless_is_billed_while_it_processes_requests() -> None:
    hosting = Hosting(
        name="f", image_uri="i", model_data="s3://b/m", role=HOSTING.role, stamp="1",
        serverless=Serverless(2048, 3),
    )  # fmt: skip
    (cost,) = maximum_costs([("CreateEndpointConfig", hosting.endpoint_config())])
    assert cost.usd == pytest.approx(0.00002 * 2 * 3 * 3600 * 730)
    assert "nothing while idle" in cost.detail


def test_a_transform_job_has_an_hourly_rate_and_no_maximum() -> None:
    request = {
        "TransformJobName": "all",
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 2},
    }
    (cost,) = maximum_costs([("CreateTransformJob", request)])
    assert cost.usd is None
    assert "0.23 USD an hour" in cost.detail


def test_the_lines_name_the_source_of_the_prices() -> None:
    said = lines(maximum_costs([("CreateTrainingJob", TRAINING), ("CreateTrainingJob", TRAINING)]))
    assert said[2] == "total: 1.84 USD"
    assert "check aws.amazon.com/sagemaker/pricing" in said[-1]
    assert "us-east-1" in said[-1]
    assert lines([]) == ["nothing: these requests are not billed by the hour"]
