import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.client.polling import Backoff
from local.client.target import Target
from local.commands import tune as tune_command
from local.commands.tune import finish, follow_tuning
from local.errors import UserError
from local.requests.hyperparameter_files import read_hyperparameters
from tests.unit.local.command_runner import Commands
from tests.unit.local.fake_tuning import NAME, FakeTuning, trial, tuning_job

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

VALUES = {"learning_rate": "0.01", "epochs": "2", "batch_size": '"64"'}
RUNNING = [trial(1, "InProgress", None, **VALUES)]
DONE = [
    trial(1, "Completed", 0.8, **VALUES),
    trial(2, "Failed", None, learning_rate="0.1", epochs="3", batch_size="32"),
]


@pytest.fixture
def berth(moto_target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    moto_target.client("s3").put_object(Bucket="bucket", Key="pets/cat/1", Body=b"x")
    return Commands(moto_target, monkeypatch)


def sent(berth: Commands, *words: str) -> dict[str, Any]:
    done = berth.run("tune", "s3://bucket/pets", "--name", "search", "--no-wait", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    client = berth.target.client("sagemaker")
    answer: dict[str, Any] = client.describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="search"
    )
    return answer


def ranges(job: dict[str, Any]) -> dict[str, Any]:
    given = job["HyperParameterTuningJobConfig"]["ParameterRanges"]
    return {each["Name"]: each for kind in given.values() for each in kind}


def test_ranges_from_the_command_line(berth: Commands) -> None:
    job = sent(
        berth,
        *("-r", "learning_rate=0.001:0.1:log", "-r", "batch_size=32,64", "-p", "arch=resnet34"),
        *("--jobs", "6", "--parallel", "3", "--seed", "5", "--early-stopping"),
    )
    assert ranges(job)["learning_rate"]["ScalingType"] == "Logarithmic"
    assert ranges(job)["batch_size"]["Values"] == ["32", "64"]
    config = job["HyperParameterTuningJobConfig"]
    assert config["ResourceLimits"]["MaxNumberOfTrainingJobs"] == 6
    assert config["ResourceLimits"]["MaxParallelTrainingJobs"] == 3
    assert config["RandomSeed"] == 5
    assert config["TrainingJobEarlyStoppingType"] == "Auto"
    assert job["TrainingJobDefinition"]["StaticHyperParameters"] == {"arch": "resnet34"}


def test_a_preset(berth: Commands) -> None:
    job = sent(berth, "--preset", "adamw")
    assert set(ranges(job)) == {"learning_rate", "eps", "weight_decay", "batch_size"}
    limits = job["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits["MaxNumberOfTrainingJobs"] == 20
    assert limits["MaxParallelTrainingJobs"] == 2
    assert job["TrainingJobDefinition"]["StaticHyperParameters"] == {"optimizer": "adamw"}


def test_fixed_values_replace_ranges_of_the_preset(berth: Commands) -> None:
    job = sent(
        berth,
        *("--preset", "resnet50-frozen", "-p", "epochs=1", "-p", "arch=resnet18"),
        *("-r", "batch_size=8,16", "-p", "lr=0.1"),
    )
    assert set(ranges(job)) == {"batch_size"}
    assert ranges(job)["batch_size"]["Values"] == ["8", "16"]
    fixed = job["TrainingJobDefinition"]["StaticHyperParameters"]
    assert fixed == {"arch": "resnet18", "freeze": "true", "epochs": "1", "lr": "0.1"}


def test_ranges_from_a_file(berth: Commands, tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(
        "ranges: {momentum: '0.5:0.99', epochs: '2:4'}\nhyperparameters: {optimizer: sgd}\n"
    )
    job = sent(berth, "--ranges", "search.yaml")
    assert set(ranges(job)) == {"momentum", "epochs"}
    assert job["TrainingJobDefinition"]["StaticHyperParameters"] == {"optimizer": "sgd"}


def test_a_plan_sends_nothing(berth: Commands) -> None:
    berth.target = replace(berth.target, plan=True)
    done = berth.run("tune", "s3://bucket/pets", "--name", "search", "--preset", "batch-size")
    assert done.exit_code == 0, done.output
    assert '"HyperParameterTuningJobName": "search"' in done.output
    answer = berth.target.client("sagemaker").list_hyper_parameter_tuning_jobs()
    assert answer["HyperParameterTuningJobSummaries"] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "--range: found none"),
        (["--preset", "adam"], "--preset: found 'adam'"),
        (["-r", "epochs=1:2", "-r", "epochs=2:3"], "--range: two ranges"),
        (["-r", "epochs=1:2", "-p", "epochs=1"], "a range and a fixed value"),
        (["--preset", "adamw", "--name", "x" * 33], "--name"),
        (["--preset", "adamw", "--objective", "accuracy"], "--objective: found 'accuracy'"),
        (["--preset", "adamw", "--jobs", "1", "--parallel", "2"], "--parallel: found 2"),
    ],
)
def test_invalid_input_is_one_line(berth: Commands, words: list[str], line: str) -> None:
    done = berth.run("tune", "s3://bucket/pets", *words)
    assert isinstance(done.exception, UserError)
    assert line in str(done.exception)


def test_trials_are_printed_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    best = {"TrainingJobName": "search-001"}
    story = FakeTuning(
        (tuning_job("InProgress"), []),
        (tuning_job("InProgress"), RUNNING),
        (tuning_job("InProgress"), RUNNING),
        (tuning_job("Completed", best), DONE),
    )
    ended = follow_tuning(story, NAME, Backoff(lambda _seconds: None))  # type: ignore[arg-type]
    assert ended["HyperParameterTuningJobStatus"] == "Completed"
    told = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in told] == [
        ["search-001", "InProgress"],
        ["search-001", "Completed"],
        ["search-002", "Failed"],
    ]


def test_a_search_writes_its_page_and_best_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tuning_job(best=DONE[0])
    page = finish(FakeTuning((job, DONE)), job, tmp_path / "search")  # type: ignore[arg-type]
    assert "<h1>search</h1>" in page.read_text()
    values = {"arch": "resnet18", "learning_rate": "0.01", "epochs": "2", "batch_size": "64"}
    assert json.loads((tmp_path / "search/best.json").read_text()) == {
        "tuning_job": "search",
        "training_job": "search-001",
        "objective": {"name": "validation:accuracy", "value": 0.8},
        "hyperparameters": values,
    }
    for name in ("best.json", "best.yaml"):
        assert read_hyperparameters(tmp_path / "search" / name) == values
    assert "--from-tuning search" in capsys.readouterr().err


def test_a_failed_search_shows_its_reason_and_writes_its_page(tmp_path: Path) -> None:
    job = tuning_job("Failed") | {"FailureReason": "no\nmetric"}
    story = FakeTuning((job, [DONE[1]]))
    with pytest.raises(UserError, match="search: Failed: no metric"):
        finish(story, job, tmp_path)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tuning.html"]
    job["FailureReason"] = ""
    with pytest.raises(UserError, match="search: Failed: AlgorithmError: <b>no luck</b> at all"):
        finish(story, job, tmp_path)  # type: ignore[arg-type]


def test_a_stopped_search_without_values(tmp_path: Path) -> None:
    job = tuning_job("Stopped")
    with pytest.raises(UserError, match="search: Stopped, and no trial has an objective value"):
        finish(FakeTuning((job, [])), job, tmp_path)  # type: ignore[arg-type]


@pytest.fixture
def on_aws(moto_aws: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    moto_aws.client("s3").put_object(Bucket="bucket", Key="pets/cat/1", Body=b"x")
    return Commands(moto_aws, monkeypatch)


FROZEN = ("-p", "freeze=true", "-r", "lr=0.001:0.1:log")


def test_features_are_computed_first_on_aws(on_aws: Commands) -> None:
    trials = sent(on_aws, *FROZEN)["TrainingJobDefinition"]
    client = on_aws.target.client("sagemaker")
    first = client.describe_training_job(TrainingJobName="search-features")
    assert first["HyperParameters"]["features_only"] == "true"
    assert first["ResourceConfig"]["InstanceType"] == "ml.g4dn.xlarge"
    assert trials["ResourceConfig"]["InstanceType"] == "ml.c5.xlarge"
    (channel,) = (each for each in trials["InputDataConfig"] if each["ChannelName"] == "features")
    place = f"{first['OutputDataConfig']['S3OutputPath']}/search-features/output/model.tar.gz"
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == place
    assert "feature_cache" not in trials["StaticHyperParameters"]


@pytest.mark.parametrize(
    "words",
    [(*FROZEN, "--no-features"), ("-r", "lr=0.001:0.1:log"), (*FROZEN, "-r", "image_size=32,64")],
)
def test_without_shared_features_no_job_computes_them(on_aws: Commands, words: Any) -> None:
    trials = sent(on_aws, *words)["TrainingJobDefinition"]
    assert trials["ResourceConfig"]["InstanceType"] == "ml.g4dn.xlarge"
    assert (
        on_aws.target.client("sagemaker").list_training_jobs(NameContains="features")[
            "TrainingJobSummaries"
        ]
        == []
    )


def test_a_given_instance_type_is_used_for_the_trials(on_aws: Commands) -> None:
    trials = sent(on_aws, *FROZEN, "--instance-type", "ml.m5.xlarge")["TrainingJobDefinition"]
    assert trials["ResourceConfig"]["InstanceType"] == "ml.m5.xlarge"


def test_the_plan_has_both_requests_and_both_prices(on_aws: Commands) -> None:
    on_aws.target = replace(on_aws.target, plan=True)
    words = ("tune", "s3://bucket/pets", "--name", "search", *FROZEN, "--max-run", "3600")
    done = on_aws.run(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "CreateTrainingJob\n" in done.output
    assert "CreateHyperParameterTuningJob\n" in done.output
    costs = [line for line in done.output.splitlines() if " USD (" in line or "total" in line]
    assert [line.split(":")[0].strip() for line in costs] == [
        "training job search-features",
        "tuning job search",
        "total",
    ]
    assert on_aws.target.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_a_range_that_unfreezes_the_backbone_is_refused(berth: Commands) -> None:
    done = berth.run("tune", "s3://bucket/pets", "--features", "-r", "freeze=true,false")
    assert done.exit_code != 0
    assert str(done.exception).startswith("--features: the range freeze=true,false unfreezes")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((*FROZEN, "--no-features"), "this search has none"),
        (FROZEN, "locally the first trial does"),
    ],
)
def test_an_instance_for_features_that_no_job_computes(
    berth: Commands, words: tuple[str, ...], why: str
) -> None:
    given = ("tune", "s3://bucket/pets", *words, "--features-instance", "ml.g5.xlarge")
    done = berth.run(*given)
    assert str(done.exception).startswith("--features-instance: ")
    assert why in str(done.exception)


def test_a_frozen_search_without_shared_features_gives_the_reason(berth: Commands) -> None:
    words = ("tune", "s3://bucket/pets", "--no-wait", *FROZEN, "-r", "image_size=32,64")
    assert "every trial computes its own features: the range image_size" in berth.run(*words).stderr


def test_on_the_local_sagemaker_trials_share_features_without_a_job(berth: Commands) -> None:
    trials = sent(berth, *FROZEN, "--features")["TrainingJobDefinition"]
    assert trials["StaticHyperParameters"]["feature_cache"] == "on"
    assert [each["ChannelName"] for each in trials["InputDataConfig"]] == ["train"]
    assert berth.target.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_features_that_cannot_be_computed_start_no_trial(
    on_aws: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: no such head"}
    monkeypatch.setattr(tune_command, "follow_training", lambda *_args, **_options: failed)
    done = on_aws.run("tune", "s3://bucket/pets", "--name", "search", *FROZEN)
    message = str(done.exception)
    assert message.startswith("search-features: Failed: AlgorithmError: no such head")
    assert "--no-features" in message
    client = on_aws.target.client("sagemaker")
    assert client.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"] == []


@pytest.mark.parametrize("asked", [True, False])
def test_a_network_without_features_is_trained_unless_they_are_required(
    asked: bool, on_aws: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "AlgorithmError: hyperparameter 'features_only': found true, but the head is a filter"
    failed = {"TrainingJobStatus": "Failed", "FailureReason": reason}
    monkeypatch.setattr(tune_command, "follow_training", lambda *_args, **_options: failed)
    words = ("tune", "s3://bucket/pets", "--name", "search", "--no-wait", *FROZEN)
    done = on_aws.run(*words, *(["--features"] if asked else []))
    made = on_aws.target.client("sagemaker").list_hyper_parameter_tuning_jobs()
    assert len(made["HyperParameterTuningJobSummaries"]) == (not asked)
    if asked:
        assert str(done.exception).startswith("--features: search-features: Failed: ")
        return
    assert "every trial runs the backbone: search-features: Failed" in done.stderr
    trials = on_aws.target.client("sagemaker").describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="search"
    )["TrainingJobDefinition"]
    assert [each["ChannelName"] for each in trials["InputDataConfig"]] == ["train"]
    assert trials["ResourceConfig"]["InstanceType"] == "ml.g4dn.xlarge"


def test_ctrl_c_while_features_are_computed_shows_how_to_continue(
    on_aws: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune_command, "follow_training", interrupt)
    done = on_aws.run("tune", "s3://bucket/pets", "--name", "search", *FROZEN)
    assert done.exit_code == 130
    assert "--channel features=s3://bucket/jobs/search-features/output/model.tar.gz" in done.stderr
