from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from local.errors import UserError
from local.requests.training import TrainingJobRequest, berth_metrics
from local.requests.tuning import Range, Search, best_hyperparameters, unquote_json

JOB = TrainingJobRequest(
    image_uri="berth:latest",
    role="arn:aws:iam::123456789012:role/berth",
    channels={"train": "s3://bucket/flowers/"},
    output="s3://bucket/jobs",
    hyperparameters={"arch": "resnet18"},
    metrics=berth_metrics(),
    tags={"team": "plants"},
)
RATE = Range.parse("learning_rate=0.001:0.1:log")
SIZES = Range.parse("batch_size=32,64")


def accepted(request: dict[str, Any]) -> None:
    service = botocore.session.get_session().get_service_model("sagemaker")
    shape = service.operation_model("CreateHyperParameterTuningJob").input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate=0.001:0.1:log", ("continuous", "0.001", "0.1", "Logarithmic", ())),
        ("momentum=0.1:1", ("continuous", "0.1", "1", "Auto", ())),
        ("dropout=0:0.9:reverselog", ("continuous", "0", "0.9", "ReverseLogarithmic", ())),
        ("depth=2:4:int", ("integer", "2", "4", "Auto", ())),
        ("depth=2:4:linear:int", ("integer", "2", "4", "Linear", ())),
        ("epochs=2:4", ("integer", "2", "4", "Auto", ())),
        ("batch-size=16:64:log", ("integer", "16", "64", "Logarithmic", ())),
        ("batch_size=32, 64,128", ("categorical", "", "", "Auto", ("32", "64", "128"))),
        ("optimizer=sgd", ("categorical", "", "", "Auto", ("sgd",))),
        ("optimizer=sgd,adamw", ("categorical", "", "", "Auto", ("sgd", "adamw"))),
    ],
)
def test_ranges_from_the_command_line(text: str, expected: tuple[Any, ...]) -> None:
    found = Range.parse(text)
    assert (found.kind, found.low, found.high, found.scaling, found.values) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate", "expected name=low:high"),
        ("=1:2", "expected name=low:high"),
        ("x=", "expected name=low:high"),
        ("x=1,", "expected name=low:high"),
        ("x=1,1", "expected each value once"),
        ("x=1:2:cubic", "found 'cubic'"),
        ("x=a:b", "expected two numbers"),
        ("x=1:2.5:int", "expected two whole numbers"),
        ("epochs=1:2.5", "expected two whole numbers"),
        ("x=2:1", "the lower bound first"),
        ("x=1:1", "the lower bound first"),
        ("x=0:1:log", "expected a log range above 0"),
        ("x=0:1:reverselog", "from 0 to below 1"),
        ("x=0:1:int:reverselog", "from 0 to below 1"),
        ("x=0:inf", "finite"),
        ("x=nan:1", "finite"),
    ],
)
def test_invalid_ranges(text: str, words: str) -> None:
    with pytest.raises(UserError, match="--range") as refused:
        Range.parse(text)
    assert words in str(refused.value)


def test_a_search_with_every_option() -> None:
    search = Search(
        ranges=(RATE, Range.parse("epochs=2:4:int"), Range.parse("batch_size=32,64")),
        objective="validation:loss",
        goal="Minimize",
        max_jobs=20,
        max_parallel=4,
        seed=7,
        early_stopping=True,
        target=0.1,
        max_stagnation=5,
        max_runtime=3600,
        parents=("before", "earlier"),
    )
    job = replace(JOB, spot=True, max_run=60, checkpoints="s3://b/c", environment={"A": "1"})
    search.check(job)
    request = search.request("search", job)
    accepted(request)
    definition = request.pop("TrainingJobDefinition")
    assert request == {
        "HyperParameterTuningJobName": "search",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {
                "Type": "Minimize",
                "MetricName": "validation:loss",
            },
            "ResourceLimits": {
                "MaxParallelTrainingJobs": 4,
                "MaxNumberOfTrainingJobs": 20,
                "MaxRuntimeInSeconds": 3600,
            },
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {
                        "Name": "learning_rate",
                        "MinValue": "0.001",
                        "MaxValue": "0.1",
                        "ScalingType": "Logarithmic",
                    }
                ],
                "IntegerParameterRanges": [
                    {"Name": "epochs", "MinValue": "2", "MaxValue": "4", "ScalingType": "Auto"}
                ],
                "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["32", "64"]}],
            },
            "TrainingJobEarlyStoppingType": "Auto",
            "TuningJobCompletionCriteria": {
                "TargetObjectiveMetricValue": 0.1,
                "BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 5},
            },
            "RandomSeed": 7,
        },
        "WarmStartConfig": {
            "ParentHyperParameterTuningJobs": [
                {"HyperParameterTuningJobName": "before"},
                {"HyperParameterTuningJobName": "earlier"},
            ],
            "WarmStartType": "TransferLearning",
        },
        "Tags": [{"Key": "team", "Value": "plants"}],
    }
    as_job = job.request("job")
    for name in ("TrainingJobName", "HyperParameters", "Tags"):
        as_job.pop(name)
    assert definition == {"StaticHyperParameters": {"arch": "resnet18"}} | as_job


def test_hyperband_and_grid() -> None:
    hyperband = Search((RATE,), strategy="Hyperband", min_resource=1, max_resource=9)
    hyperband.check(JOB)
    request = hyperband.request("search", JOB)
    accepted(request)
    config = request["HyperParameterTuningJobConfig"]
    assert config["StrategyConfig"] == {
        "HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 9}
    }
    assert config["TrainingJobEarlyStoppingType"] == "Off"
    grid = Search((Range.parse("batch_size=32,64"),), strategy="Grid", identical=True)
    grid.check(JOB)
    request = grid.request("search", JOB)
    accepted(request)
    limits = request["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits == {"MaxParallelTrainingJobs": 2}
    assert "WarmStartConfig" not in request


@pytest.mark.parametrize("epochs", ["9", '"9"'])
def test_hyperband_takes_its_epochs_from_a_fixed_hyperparameter(epochs: str) -> None:
    job = replace(JOB, hyperparameters={"epochs": epochs})
    hyperband = Search((RATE,), strategy="Hyperband")
    hyperband.check(job)
    accepted(hyperband.request("search", job))


def test_identical_parents() -> None:
    warm = Search((RATE,), parents=("before",), identical=True).request("search", JOB)
    assert warm["WarmStartConfig"]["WarmStartType"] == "IdenticalDataAndAlgorithm"


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (Search(()), "--range: found none"),
        (Search((RATE, Range.parse("lr=1:2"))), "found learning_rate twice"),
        (Search((Range.parse("arch=resnet18,resnet50"),)), "a range and a fixed value"),
        (Search((RATE,), objective="accuracy"), "--objective: found 'accuracy'"),
        (Search((Range.parse("learning_rat=1:2"),)), "did you mean 'learning_rate'?"),
        (Search((Range.parse("momentum=0.5:2"),)), "'momentum'"),
        (Search((Range.parse("optimizer=sgd,adagrad"),)), "'optimizer'"),
        (Search((RATE,), strategy="Grid"), "--strategy Grid"),
        (Search((RATE,), min_resource=2), "only supported by Hyperband"),
        (Search((RATE,), strategy="Hyperband"), "--max-resource: missing"),
        (
            Search((RATE,), strategy="Hyperband", min_resource=4, max_resource=4),
            "--min-resource: found 4, expected less than --max-resource or epochs (4)",
        ),
        (
            Search((SIZES,), strategy="Grid", max_parallel=3),
            "--parallel: found 3, expected at most the grid's combinations (2)",
        ),
        (Search((RATE,), strategy="Hyperband", early_stopping=True), "--early-stopping"),
        (Search((RATE,), max_jobs=2, max_parallel=3), "at most --jobs (2)"),
    ],
)
def test_conflicting_options_are_refused(search: Search, words: str) -> None:
    with pytest.raises(UserError) as refused:
        search.check(JOB)
    assert words in str(refused.value)


def test_the_best_hyperparameters_of_a_response() -> None:
    answer: dict[str, Any] = {
        "HyperParameterTuningJobName": "search",
        "HyperParameterTuningJobStatus": "Completed",
        "TrainingJobDefinition": {
            "StaticHyperParameters": {
                "arch": "resnet18",
                "_tuning_objective_metric": "validation:accuracy",
            }
        },
        "BestTrainingJob": {
            "TrainingJobName": "search-001",
            "TunedHyperParameters": {"learning_rate": "0.01", "optimizer": '"sgd"'},
        },
    }
    expected = {"arch": "resnet18", "learning_rate": "0.01", "optimizer": "sgd"}
    assert best_hyperparameters(answer) == expected
    answer["TrainingJobDefinitions"] = [
        {"DefinitionName": "a", "StaticHyperParameters": {"arch": "vgg11"}},
        {"DefinitionName": "b", "StaticHyperParameters": {"arch": "resnet50"}},
    ]
    answer["BestTrainingJob"]["TrainingJobDefinitionName"] = "b"
    assert best_hyperparameters(answer)["arch"] == "resnet50"
    with pytest.raises(UserError, match="search: InProgress, and no trial"):
        best_hyperparameters(
            {
                "HyperParameterTuningJobName": "search",
                "HyperParameterTuningJobStatus": "InProgress",
                "BestTrainingJob": {},
            }
        )


@pytest.mark.parametrize(
    ("value", "expected"), [('"sgd"', "sgd"), ("sgd", "sgd"), ('"sgd', '"sgd'), ("0.1", "0.1")]
)
def test_the_sdks_quotes_are_removed(value: str, expected: str) -> None:
    assert unquote_json(value) == expected
