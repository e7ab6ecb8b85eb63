from collections.abc import Callable
from typing import Any

import pytest

from local.emulator.context import Context
from local.emulator.store import Kind
from tests.unit.local.emulator.api.conftest import TUNING

Refused = Callable[..., str]
CREATE = "create_hyper_parameter_tuning_job"
CONFIG = "HyperParameterTuningJobConfig"
RANGES = f"{CONFIG}.ParameterRanges"
LIMITS = f"{CONFIG}.ResourceLimits"
DEFINITION = "TrainingJobDefinition"
METRICS = f"{DEFINITION}.AlgorithmSpecification.MetricDefinitions"
NAME = {"HyperParameterTuningJobName": "tune"}


def number(low: str, high: str, scale: str = "Auto", name: str = "x") -> dict[str, str]:
    return {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": scale}


def whole(*ends: str) -> dict[str, Any]:
    return {RANGES: {"IntegerParameterRanges": [number(*ends)]}}


def real(*ends: str) -> dict[str, Any]:
    return {RANGES: {"ContinuousParameterRanges": [number(*ends)]}}


def choice(*values: str, name: str = "c") -> dict[str, Any]:
    return {"Name": name, "Values": list(values)}


def grid(*counts: int, most: int | None = None) -> dict[str, Any]:
    found = [choice(*map(str, range(count)), name=f"c{n}") for n, count in enumerate(counts)]
    limits = {"MaxParallelTrainingJobs": 2}
    if most is not None:
        limits["MaxNumberOfTrainingJobs"] = most
    return {
        f"{CONFIG}.Strategy": "Grid",
        RANGES: {"CategoricalParameterRanges": found},
        LIMITS: limits,
    }


HYPERBAND = {f"{CONFIG}.Strategy": "Hyperband"}
RESOURCES = f"{CONFIG}.StrategyConfig.HyperbandStrategyConfig"


def test_from_create_to_delete(client: Any, context: Context, valid: Any) -> None:
    arn = client.create_hyper_parameter_tuning_job(**valid(CREATE))["HyperParameterTuningJobArn"]
    assert arn == context.arn(Kind.TUNING_JOB, "tune")
    described = client.describe_hyper_parameter_tuning_job(**NAME)
    assert described["HyperParameterTuningJobConfig"]["Strategy"] == "Bayesian"
    client.stop_hyper_parameter_tuning_job(**NAME)
    with pytest.raises(client.exceptions.ResourceInUse, match="is Stopping"):
        client.delete_hyper_parameter_tuning_job(**NAME)
    end(context, "tune", "Stopped")
    client.delete_hyper_parameter_tuning_job(**NAME)
    client.create_hyper_parameter_tuning_job(**valid(CREATE))


def end(context: Context, name: str, status: str = "Completed") -> None:
    context.store.update(
        Kind.TUNING_JOB,
        name,
        lambda record: record.body.update({"HyperParameterTuningJobStatus": status}),
    )


@pytest.mark.parametrize(
    "method",
    [
        "describe_hyper_parameter_tuning_job",
        "stop_hyper_parameter_tuning_job",
        "delete_hyper_parameter_tuning_job",
        "list_training_jobs_for_hyper_parameter_tuning_job",
    ],
)
def test_a_missing_job(client: Any, method: str) -> None:
    with pytest.raises(client.exceptions.ResourceNotFound, match="Requested resource not found"):
        getattr(client, method)(HyperParameterTuningJobName="nowhere")


def test_a_name_can_be_used_once(client: Any, valid: Any) -> None:
    client.create_hyper_parameter_tuning_job(**valid(CREATE))
    with pytest.raises(client.exceptions.ResourceInUse, match="name tune already exists. Choose"):
        client.create_hyper_parameter_tuning_job(**valid(CREATE))


ACCEPTED: list[dict[str, Any]] = [
    whole("-3", "9"),
    whole("1", "512", "Logarithmic"),
    real("0", "0.999", "ReverseLogarithmic"),
    real("1e-9", "1", "Logarithmic"),
    grid(2, 3),
    grid(2, 3, most=6),
    HYPERBAND,
    {**HYPERBAND, f"{RESOURCES}.MinResource": 2, f"{RESOURCES}.MaxResource": 9},
    {
        f"{CONFIG}.Strategy": "Random",
        f"{CONFIG}.RandomSeed": 1,
        f"{LIMITS}.MaxNumberOfTrainingJobs": 10000,
    },
    {f"{CONFIG}.TrainingJobEarlyStoppingType": "Auto"},
    {f"{DEFINITION}.StaticHyperParameters._tuning_objective_metric": "accuracy"},
    {
        f"{DEFINITION}.EnableManagedSpotTraining": True,
        f"{DEFINITION}.StoppingCondition.MaxWaitTimeInSeconds": 3600,
        "Tags": [{"Key": "berth:interrupt-after", "Value": "3"}],
    },
]


@pytest.mark.parametrize("changes", ACCEPTED, ids=range(len(ACCEPTED)))
def test_valid_requests_are_accepted(client: Any, valid: Any, changes: dict[str, Any]) -> None:
    client.create_hyper_parameter_tuning_job(**valid(CREATE, changes))


VALID_DEFINITION = {
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::123456789012:role/berth",
    "OutputDataConfig": {"S3OutputPath": "s3://out"},
    "StoppingCondition": {},
}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"HyperParameterTuningJobName": "t" * 33}, "less than or equal to 32"),
    # Ranges.
    ({RANGES: ...}, "ParameterRanges has 0 hyperparameters; expected 1 to 30"),
    (
        {
            RANGES: {
                "IntegerParameterRanges": [number("1", "2", name=f"i{n}") for n in range(15)],
                "CategoricalParameterRanges": [choice("a", name=f"c{n}") for n in range(16)],
            }
        },
        "has 31 hyperparameters",
    ),
    (
        {
            RANGES: {
                "IntegerParameterRanges": [number("1", "2")],
                "CategoricalParameterRanges": [choice("a", name="x")],
            }
        },
        "ParameterRanges has 'x' more than once",
    ),
    (whole("1", "2.5"), "IntegerParameterRanges 'x': MaxValue is '2.5'; expected a whole number"),
    (whole("one", "2"), "MinValue is 'one'"),
    (real("0", "nan"), "ContinuousParameterRanges 'x': MaxValue is 'nan'; expected a number"),
    (real("0", "inf"), "MaxValue is 'inf'"),
    (real("1", "1"), "MinValue 1 is not below MaxValue 1"),
    (whole("3", "2"), "MinValue 3 is not below MaxValue 2"),
    (real("0", "1", "Logarithmic"), "Logarithmic with MinValue 0; expected above 0"),
    (real("-0.1", "0.5", "ReverseLogarithmic"), "expected a range within 0 <= x < 1"),
    (real("0", "1", "ReverseLogarithmic"), "expected a range within 0 <= x < 1"),
    (whole("0", "9", "ReverseLogarithmic"), "expected Auto, Linear or Logarithmic"),
    ({RANGES: {"CategoricalParameterRanges": [choice("a", "a")]}}, "'c' has 'a' more than once"),
    (
        {f"{RANGES}.AutoParameters": [{"Name": "a", "ValueHint": "1"}]},
        "AutoParameters is not supported",
    ),
    # Strategies.
    ({f"{CONFIG}.Strategy": "Grid"}, "ContinuousParameterRanges was given with the Strategy Grid"),
    (grid(2, 3, most=5), "MaxNumberOfTrainingJobs is 5; expected 6, the number of combinations"),
    ({RESOURCES: {"MaxResource": 3}}, "was given with the Strategy Bayesian; expected Hyperband"),
    ({**HYPERBAND, f"{DEFINITION}.StaticHyperParameters": {}}, "MaxResource is missing"),
    (
        {**HYPERBAND, f"{DEFINITION}.StaticHyperParameters": {"epochs": "many"}},
        "MaxResource is missing",
    ),
    ({**HYPERBAND, RESOURCES: {"MinResource": 9}}, "MinResource is 9; expected less than"),
    ({**HYPERBAND, RESOURCES: {"MaxResource": 20001}}, "expected at most 20000"),
    (
        {**HYPERBAND, f"{CONFIG}.TrainingJobEarlyStoppingType": "Auto"},
        "expected Off with Hyperband",
    ),
    # Limits.
    ({f"{LIMITS}.MaxNumberOfTrainingJobs": ...}, "is missing; the Strategy Bayesian needs it"),
    ({f"{LIMITS}.MaxParallelTrainingJobs": 7}, "is 7; expected at most the 6 training jobs"),
    ({f"{LIMITS}.MaxRuntimeInSeconds": 60}, "greater than or equal to 120"),
    # The objective and the hyperparameters.
    (
        {f"{CONFIG}.HyperParameterTuningJobObjective.MetricName": "loss"},
        "A metric is required for this hyperparameter tuning job objective. Provide a metric in "
        "the metric definitions. (The objective is 'loss'; MetricDefinitions has accuracy.)",
    ),
    ({METRICS: ...}, "MetricDefinitions has none"),
    (
        {f"{CONFIG}.HyperParameterTuningJobObjective": ...},
        "HyperParameterTuningJobObjective is mis",
    ),
    (
        {f"{DEFINITION}.StaticHyperParameters.lr": "1"},
        "'lr' is in TrainingJobDefinition.StaticHyperParameters and in the ranges",
    ),
    (
        {f"{DEFINITION}.StaticHyperParameters": {f"h{n}": "1" for n in range(100)}},
        "have 101 hyperparameters; expected at most 100",
    ),
    # Errors of training jobs.
    ({f"{METRICS}.0.Regex": "("}, f"{METRICS}: the Regex '('"),
    ({f"{DEFINITION}.AlgorithmSpecification.TrainingImage": "no:where"}, "the image no:where"),
    ({f"{DEFINITION}.AlgorithmSpecification.TrainingInputMode": "Pipe"}, "'Pipe' is not supported"),
    (
        {f"{DEFINITION}.StoppingCondition.MaxWaitTimeInSeconds": 9},
        "TrainingJobDefinition.StoppingCondition has 9",
    ),
    ({f"{DEFINITION}.OutputDataConfig.S3OutputPath": "s3://gone"}, "bucket gone does not exist"),
    ({f"{DEFINITION}.ResourceConfig": ...}, "are missing; expected exactly one of them"),
    (
        {f"{DEFINITION}.ResourceConfig": {"InstanceCount": 1}},
        "TrainingJobDefinition.ResourceConfig.InstanceType is",
    ),
    (
        {f"{DEFINITION}.InputDataConfig.0.DataSource.S3DataSource.S3Uri": "s3://data/x"},
        'No S3 objects found under S3 URL "s3://data/x"',
    ),
    (
        {"Tags": [{"Key": "berth:interrupt-after", "Value": "5"}]},
        "without EnableManagedSpotTraining",
    ),
    # Features that the local SageMaker lacks.
    ({"Autotune": {"Mode": "Enabled"}}, "Autotune is not supported"),
    ({"Autotune": {"Mode": "Enabled"}}, "give HyperParameterTuningJobConfig.ParameterRanges"),
    (
        {f"{RANGES}.AutoParameters": [{"Name": "a", "ValueHint": "1"}]},
        "give each hyperparameter its range in HyperParameterTuningJobConfig.ParameterRanges",
    ),
    ({DEFINITION: ...}, "TrainingJobDefinition and TrainingJobDefinitions are missing"),
    (
        {"TrainingJobDefinitions": [VALID_DEFINITION]},
        "TrainingJobDefinition and TrainingJobDefinitions are both given",
    ),
    (
        {f"{DEFINITION}.HyperParameterRanges": {"IntegerParameterRanges": [number("1", "2")]}},
        "TrainingJobDefinition.HyperParameterRanges was given; expected Hyper",
    ),
    (
        {f"{DEFINITION}.TuningObjective": {"Type": "Minimize", "MetricName": "a"}},
        "TrainingJobDefinition.TuningObjective was given; expected Hyper",
    ),
]


@pytest.mark.parametrize(
    ("changes", "expected"), REFUSED, ids=[expected[:40] for _, expected in REFUSED]
)
def test_invalid_requests_are_refused(
    refused: Refused, context: Context, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused(CREATE, changes)
    assert context.store.every(Kind.TUNING_JOB) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({f"{LIMITS}.MaxNumberOfTrainingJobs": 751}, "expected at most 750 with the Strategy Bay"),
        (grid(28, 28), "is 784; expected at most 750 with the Strategy Grid"),
        (
            {f"{LIMITS}.MaxNumberOfTrainingJobs": 200, f"{LIMITS}.MaxParallelTrainingJobs": 101},
            "MaxParallelTrainingJobs is 101; expected at most 100",
        ),
        (
            {f"{DEFINITION}.ResourceConfig.InstanceCount": 2},
            "TrainingJobDefinition.ResourceConfig.",
        ),
    ],
)
def test_requests_above_the_limits_are_refused(
    refused: Refused, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused(CREATE, changes, "ResourceLimitExceeded")


@pytest.fixture
def parent(client: Any, context: Context, valid: Any) -> str:
    client.create_hyper_parameter_tuning_job(**valid(CREATE, HyperParameterTuningJobName="parent"))
    end(context, "parent")
    return "parent"


def warm(*names: str, kind: str = "IdenticalDataAndAlgorithm") -> dict[str, Any]:
    parents = [{"HyperParameterTuningJobName": name} for name in names]
    return {"WarmStartConfig": {"ParentHyperParameterTuningJobs": parents, "WarmStartType": kind}}


def test_a_warm_start_is_accepted(client: Any, context: Context, valid: Any, parent: str) -> None:
    context.store.update(
        Kind.TUNING_JOB,
        parent,
        lambda record: record.body[DEFINITION]["StaticHyperParameters"].update(
            {"_tuning_objective_metric": "accuracy"}
        ),
    )
    client.create_hyper_parameter_tuning_job(**valid(CREATE, warm(parent)))
    changes = {
        **warm(parent, kind="TransferLearning"),
        f"{DEFINITION}.InputDataConfig": ...,
        "HyperParameterTuningJobName": "other",
    }
    client.create_hyper_parameter_tuning_job(**valid(CREATE, changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (warm("nobody"), "no such hyperparameter tuning job: 'nobody'"),
        (warm("parent", "parent"), "has 'parent' more than once"),
        (warm(), "greater than or equal to 1"),
        (warm(*"abcdef"), "less than or equal to 5"),
        (
            {**warm("parent"), f"{CONFIG}.HyperParameterTuningJobObjective.Type": "Minimize"},
            "'parent' has the objective Maximize accuracy; expected the same as this job's",
        ),
        (
            {**warm("parent"), f"{DEFINITION}.StaticHyperParameters": {"epochs": "1", "a": "1"}},
            "'parent' has 2 static and tuned hyperparameters and this job 3; expected the same",
        ),
        (
            {**warm("parent"), f"{DEFINITION}.StaticHyperParameters": {"dropout": "1"}},
            "(only the parent has: epochs; only this job has: dropout)",
        ),
        (
            {
                **warm("parent", kind="TransferLearning"),
                f"{DEFINITION}.StaticHyperParameters": {"dropout": "1"},
            },
            "(only the parent has: epochs; only this job has: dropout)",
        ),
        ({**HYPERBAND, **warm("parent")}, "WarmStartConfig with the Strategy Hyperband is not sup"),
        ({**warm("parent"), f"{DEFINITION}.InputDataConfig": ...}, "had another InputDataConfig"),
    ],
)
def test_invalid_parents_are_refused(
    refused: Refused, parent: str, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused(CREATE, changes)


def test_a_parent_that_still_runs(refused: Refused, context: Context, parent: str) -> None:
    end(context, parent, "InProgress")
    assert "'parent' is InProgress; expected a job that is Com" in refused(CREATE, warm(parent))


def test_a_parent_of_another_image(
    refused: Refused, context: Context, client: Any, valid: Any, parent: str
) -> None:
    context.store.update(
        Kind.TUNING_JOB,
        parent,
        lambda record: record.body[DEFINITION]["AlgorithmSpecification"].update(
            {"TrainingImage": "older"}
        ),
    )
    assert "'parent' ran the image older; WarmStartType" in refused(CREATE, warm(parent))
    changes = warm(parent, kind="TransferLearning")
    client.create_hyper_parameter_tuning_job(**valid(CREATE, changes))


OWN = f"{DEFINITION}.HyperParameterTuningResourceConfig"
ONE = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}
NO_RESOURCES = {f"{DEFINITION}.ResourceConfig": ...}


@pytest.mark.parametrize(
    "machines",
    [
        ONE,
        {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        {**ONE, "VolumeKmsKeyId": "1234abcd-12ab-34cd-56ef-1234567890ab"},
        {"InstanceConfigs": [ONE]},
        {
            "InstanceConfigs": [{**ONE, "InstanceCount": 4}, ONE],
            "AllocationStrategy": "Prioritized",
        },
    ],
)
def test_instances_of_the_tuning_job_itself(
    client: Any, valid: Any, machines: dict[str, Any]
) -> None:
    request = valid(CREATE, {**NO_RESOURCES, OWN: machines})
    client.create_hyper_parameter_tuning_job(**request)
    described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune")
    assert described[DEFINITION]["HyperParameterTuningResourceConfig"] == machines
    first = machines.get("InstanceConfigs", [machines])[0]
    # SDK v2 sends the tuning job's own instances, and reads ResourceConfig when it attaches.
    assert described[DEFINITION]["ResourceConfig"].items() >= first.items()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({OWN: ONE}, "are both given; expected exactly one of them"),
        ({**NO_RESOURCES, OWN: {"InstanceType": "ml.m5.large"}}, "InstanceCount is missing"),
        ({**NO_RESOURCES, OWN: {"InstanceCount": 1}}, "InstanceType is missing"),
        ({**NO_RESOURCES, OWN: {**ONE, "InstanceCount": 0}}, "InstanceCount is 0"),
        (
            {**NO_RESOURCES, OWN: {"InstanceType": "ml.m5.large", "InstanceConfigs": [ONE]}},
            "InstanceType was given with InstanceConfigs",
        ),
        (
            {**NO_RESOURCES, OWN: {"VolumeSizeInGB": 1, "InstanceConfigs": [ONE]}},
            "VolumeSizeInGB was given with InstanceConfigs",
        ),
        (
            {**NO_RESOURCES, OWN: {"InstanceConfigs": [{**ONE, "InstanceCount": 0}]}},
            "InstanceConfigs[0].InstanceCount is 0",
        ),
        (
            {**NO_RESOURCES, OWN: {**ONE, "AllocationStrategy": "Prioritized"}},
            "AllocationStrategy was given without InstanceConfigs",
        ),
    ],
)
def test_invalid_instances_are_refused(
    refused: Refused, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused(CREATE, changes)


def test_too_many_instances_are_refused(refused: Refused) -> None:
    changes = {**NO_RESOURCES, OWN: {"InstanceConfigs": [{**ONE, "InstanceCount": 3}]}}
    found = refused(CREATE, changes, "ResourceLimitExceeded")
    assert "HyperParameterTuningResourceConfig.InstanceCount is 3" in found


def several(**changes: dict[str, Any]) -> dict[str, Any]:
    """Return the valid request with two definitions, changed by `first` and `second`."""
    definitions = []
    for name in ("first", "second"):
        own = {
            **TUNING[DEFINITION],
            "DefinitionName": name,
            "TuningObjective": {"Type": "Maximize", "MetricName": "accuracy"},
            "HyperParameterRanges": {"IntegerParameterRanges": [number("1", "9")]},
            **changes.get(name, {}),
        }
        definitions.append({key: value for key, value in own.items() if value is not ...})
    return {
        DEFINITION: ...,
        "TrainingJobDefinitions": definitions,
        f"{CONFIG}.ParameterRanges": ...,
        f"{CONFIG}.HyperParameterTuningJobObjective": ...,
    }


def test_several_definitions(client: Any, valid: Any) -> None:
    client.create_hyper_parameter_tuning_job(**valid(CREATE, several()))
    described = client.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tune")
    names = [each["DefinitionName"] for each in described["TrainingJobDefinitions"]]
    assert names == ["first", "second"]
    assert DEFINITION not in described


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            several(second={"DefinitionName": ...}),
            "TrainingJobDefinitions[1].DefinitionName is mis",
        ),
        (several(second={"DefinitionName": "first"}), "has 'first' more than once"),
        (several(second={"TuningObjective": ...}), "'second'.TuningObjective is missing"),
        (
            several(second={"TuningObjective": {"Type": "Minimize", "MetricName": "accuracy"}}),
            "expected the same in all",
        ),
        (
            several(first={"TuningObjective": {"Type": "Maximize", "MetricName": "f1"}}),
            "The objective is 'f1'",
        ),
        (several(first={"HyperParameterRanges": ...}), "'first'.HyperParameterRanges has 0"),
        (
            several(first={"HyperParameterRanges": {"IntegerParameterRanges": [number("9", "1")]}}),
            "'first'.HyperParameterRanges.IntegerParameterRanges 'x': MinValue 9 is not below",
        ),
        (
            {
                **several(),
                f"{CONFIG}.ParameterRanges": {"IntegerParameterRanges": [number("1", "2")]},
            },
            "ParameterRanges was given with TrainingJobDefinitions",
        ),
        (
            {**several(), "WarmStartConfig": warm("x")["WarmStartConfig"]},
            "WarmStartConfig with T",
        ),
        (several(second={"ResourceConfig": ...}), "'second'.ResourceConfig and"),
        (several(second={"OutputDataConfig": {"S3OutputPath": "s3://gone"}}), "bucket gone does"),
    ],
)
def test_several_definitions_that_are_refused(
    refused: Refused, changes: dict[str, Any], expected: str
) -> None:
    assert expected in refused(CREATE, changes)


@pytest.mark.parametrize("epochs", ["9", '"9"', " 9 "])
def test_the_resource_of_hyperband_may_be_quoted(client: Any, valid: Any, epochs: str) -> None:
    changes = {
        f"{CONFIG}.Strategy": "Hyperband",
        f"{DEFINITION}.StaticHyperParameters": {"epochs": epochs},
    }
    client.create_hyper_parameter_tuning_job(**valid(CREATE, changes))


@pytest.mark.parametrize("strategy", ["Bayesian", "Random", "Grid"])
def test_a_range_of_one_category(client: Any, valid: Any, strategy: str) -> None:
    ranges = {"CategoricalParameterRanges": [{"Name": "arch", "Values": ["resnet18"]}]}
    changes: dict[str, Any] = {f"{CONFIG}.Strategy": strategy, f"{CONFIG}.ParameterRanges": ranges}
    if strategy == "Grid":
        changes |= {f"{LIMITS}.MaxNumberOfTrainingJobs": 1, f"{LIMITS}.MaxParallelTrainingJobs": 1}
    client.create_hyper_parameter_tuning_job(**valid(CREATE, changes))
