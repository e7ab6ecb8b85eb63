import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.client.target import Target
from local.commands.options.monitoring import monitoring_options
from local.errors import UserError
from local.requests.training import TrainingJobRequest
from tests.unit.local.command_runner import Commands

RULES = """
raise SystemExit("this file is not to be run")
class Mine(Rule):
    def __init__(self, base_trial, most=7): ...
    def invoke_at_step(self, step): ...
"""
TRAIN = ("train", "s3://bucket/pets", "--name", "first", "--no-wait")
PLACE = Target("local", None, "us-east-1", "123456789012", "role", "bucket", "berth:latest")
JOB = TrainingJobRequest("berth:latest", "role", {"train": "s3://bucket/pets/"}, "s3://bucket/jobs")
TUNE = ("tune", "s3://bucket/pets", "--name", "search", "--no-wait", "-r", "lr=0.1:1")


def write_files(folder: Path) -> None:
    files = {"mine.py": RULES, "broken.py": "def :", "empty.py": "x = 1", "mine.txt": RULES}
    for name, text in {**files, "huge.py": RULES + " " * 1_000_000}.items():
        (folder / name).write_text(text)


@pytest.fixture
def berth(moto_target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    moto_target.client("s3").put_object(Bucket="bucket", Key="pets/train/cat/1", Body=b"x")
    return Commands(moto_target, monkeypatch)


def sent(berth: Commands) -> dict[str, Any]:
    job: dict[str, Any] = berth.target.client("sagemaker").describe_training_job(
        TrainingJobName="first"
    )
    return job


def test_monitoring_options_become_hyperparameters(berth: Commands) -> None:
    done = berth.run(
        *TRAIN, "--profile", "--debug", "--rules", "Overfit,DeadRelu", "-p", "epochs=3"
    )
    assert done.exit_code == 0, (done.output, done.exception)
    job = sent(berth)
    assert job["HyperParameters"] == {
        "epochs": "3",
        "debug": "true",
        "profile": "true",
        "rules": "Overfit,DeadRelu",
    }
    assert not {"DebugHookConfig", "ProfilerConfig", "DebugRuleConfigurations"} & job.keys()


@pytest.mark.parametrize("given", [{"rules": ["Overfit"]}, {"stop_on": ["Overfit"]}])
def test_a_rule_implies_the_debugger(given: dict[str, Any]) -> None:
    job = monitoring_options(**given).apply_to(JOB, PLACE, "first")
    assert job.hyperparameters["debug"] == "true"


def test_custom_rules_are_sent_as_a_channel(berth: Commands) -> None:
    done = berth.run(*TRAIN, "--rules-file", "mine.py", "--rule-parameter", "Mine_most=9")
    assert done.exit_code == 0, (done.output, done.exception)
    job = sent(berth)
    assert job["HyperParameters"] == {
        "debug": "true",
        "rules": "auto,Mine",
        "rule_parameters": json.dumps({"Mine_most": 9}),
        "rules_file": "mine.py",
    }
    channel = job["InputDataConfig"][-1]
    assert channel["ChannelName"] == "rules"
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    assert uri == "s3://bucket/jobs/first/rules/mine.py"
    stored = berth.target.client("s3").get_object(Bucket="bucket", Key="jobs/first/rules/mine.py")
    assert stored["Body"].read().decode() == RULES


def test_a_plan_shows_the_file_and_sends_nothing(berth: Commands) -> None:
    berth.target = replace(berth.target, plan=True)
    done = berth.run(*TRAIN, "--rules-file", "mine.py", "--plan")
    assert done.exit_code == 0, (done.output, done.exception)
    assert '"Key": "jobs/first/rules/mine.py"' in done.output
    assert "s3:PutObject" in done.output
    found = berth.target.client("s3").list_objects_v2(Bucket="bucket", Prefix="jobs/")
    assert found["KeyCount"] == 0


def test_awss_own_debugger_is_requested_without_hyperparameters() -> None:
    watching = monitoring_options(profile=True, rules=["Overfit"], aws_debugger=True)
    request = watching.apply_to(JOB, PLACE, "first").request("first")
    assert request["HyperParameters"] == {}
    rules = [rule["RuleConfigurationName"] for rule in request["DebugRuleConfigurations"]]
    assert rules == ["Overfit"]
    assert request["ProfilerConfig"]["S3OutputPath"] == "s3://bucket/jobs"
    assert watching.uploads(PLACE, "first") == []


def test_the_trials_of_a_search_are_profiled(berth: Commands) -> None:
    done = berth.run(*TUNE, "--profile", "--rule-parameter", "StepOutlier_stddev=5")
    assert done.exit_code == 0, (done.output, done.exception)
    job = berth.target.client("sagemaker").describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="search"
    )
    assert job["TrainingJobDefinition"]["StaticHyperParameters"] == {
        "profile": "true",
        "rule_parameters": json.dumps({"StepOutlier_stddev": 5}),
    }


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"rules": ["Overfitt"]}, "did you mean 'Overfit'"),
        ({"debug": True, "rule_parameter": ["Overfit_patienc=1"]}, "did you mean 'patience'?"),
        ({"rule_parameter": ["x"]}, "--rule-parameter: found 'x', expected name=value"),
        ({"rules_file": "none.py"}, "none.py"),
        ({"rules_file": "broken.py"}, "broken.py: line 1"),
        ({"rules_file": "empty.py"}, "expected subclasses of Rule"),
        ({"rules_file": "mine.txt"}, "expected a Python file (.py)"),
        ({"rules_file": "huge.py"}, "larger than 1,000,000 bytes"),
        ({"rules_file": "mine.py", "rules": ["Mein"]}, "did you mean 'Mine'"),
        ({"rules_file": "mine.py", "rules": ["mine"]}, "did you mean 'Mine'"),
        ({"rules_file": "mine.py", "rule_parameter": ["Mine_moost=1"]}, "parameter 'moost'"),
        ({"aws_debugger": True}, "--aws-debugger: needs --debug or --profile"),
        ({"aws_debugger": True, "rules_file": "mine.py"}, "built-in rules only"),
    ],
)
def test_invalid_options_are_one_line(
    given: dict[str, Any], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    if "rules_file" in given:
        given = given | {"rules_file": Path(given["rules_file"])}
    with pytest.raises(UserError) as caught:
        monitoring_options(**given).apply_to(JOB, PLACE, "first")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_conflicting_options_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path)
    with pytest.raises(UserError, match="debug: set by an option and by --hp"):
        monitoring_options(debug=True).apply_to(JOB, PLACE, "first", {"Debug": "false"})
    job = replace(JOB, channels={"rules": "s3://b/x"})
    with pytest.raises(UserError, match="found --channel rules as well"):
        monitoring_options(rules_file=tmp_path / "mine.py").apply_to(job, PLACE, "first")


def test_options_take_precedence_over_the_values_of_a_search() -> None:
    found = replace(JOB, hyperparameters={"profile": "false", "lr": "0.1"})
    job = monitoring_options(profile=True).apply_to(found, PLACE, "first")
    assert job.hyperparameters == {"profile": "true", "lr": "0.1"}


def test_another_image_does_not_support_the_debugger() -> None:
    job = replace(JOB, image_uri="theirs:2")
    with pytest.raises(UserError, match="only the berth image supports them, found theirs:2"):
        monitoring_options(debug=True).apply_to(job, PLACE, "first")
    watched = monitoring_options(debug=True, aws_debugger=True).apply_to(job, PLACE, "first")
    assert "DebugHookConfig" in watched.debugger
