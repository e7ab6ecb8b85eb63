import json
from pathlib import Path

import pytest

from local.cli import main
from local.client.target import Target

ROLE = "arn:aws:iam::123456789012:role/berth"
MODEL = ["--model-data", "s3://bucket/model.tar.gz"]
MANY = ["--multi-model", "s3://bucket/models"]
AWS = ["--where", "aws", "--role", ROLE, "--region", "us-east-1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--job and --model-data: found neither"),
        ([*MODEL, "--job", "j"], "--job and --model-data: found both"),
        ([*MODEL, *MANY], "--multi-model: found --model-data as well"),
        (["--job", "j", *MANY], "--multi-model: found --job as well"),
        (["--multi-model", "models"], "--multi-model: found models, expected s3://"),
        ([*MANY, "--serverless"], "--multi-model: found --serverless as well"),
        ([*MODEL, "--max-instances", "3"], "--max-instances: autoscaling is not supported locally"),
        ([*MODEL, "--update", "--ttl", "2h"], "--ttl: locally only a new endpoint can have one"),
        ([*MODEL, "--ttl", "soon"], "--ttl: found 'soon'"),
        (
            [*MODEL, "--precision", "int8", "--env", "BERTH_PRECISION=float32"],
            "--precision: found int8, but --env BERTH_PRECISION=float32",
        ),
        (
            [*MODEL, *AWS, "--serverless", "--max-instances", "3"],
            "--max-instances: serverless endpoints scale automatically",
        ),
        ([*MODEL, "--slim", "--instance-type", "ml.g5.xlarge"], "--slim: ml.g5.xlarge has a GPU"),
        ([*MODEL, "--cloudwatch", "AWS/Flowers"], "--cloudwatch: found 'AWS/Flowers', expected"),
        ([*MODEL, "--slim", "--image-uri", "mine"], "--slim: found --image-uri as well"),
    ],
)
def test_invalid_options_are_named(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("BERTH_HOME", str(tmp_path))
    assert main(["deploy", "flowers", *arguments, "--plan"]) == 1
    assert message in capsys.readouterr().err


def test_a_plan_shows_every_request_and_sends_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server there
    arguments = ["flowers", *MODEL, *AWS, "--ttl", "2h", "--max-instances", "2", "--plan"]
    assert main(["deploy", *arguments]) == 0
    shown = capsys.readouterr().out
    for operation in (
        "CreateModel",
        "CreateEndpointConfig",
        "CreateSchedule",
        "CreateEndpoint",
        "RegisterScalableTarget",
        "PutScalingPolicy",
    ):
        assert f"\n{operation}\n{{" in shown
    assert "must also trust scheduler.amazonaws.com" in shown
    assert "0.46 USD" in shown


@pytest.mark.parametrize("more", [[], ["--serverless", "--instance-type", "ml.g5.xlarge"]])
def test_slim_deploys_the_serving_image(
    more: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server there
    assert main(["deploy", "flowers", *MODEL, *AWS, *more, "--slim", "--plan"]) == 0
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/berth:serve"
    assert f'"Image": "{image}"' in capsys.readouterr().out


def test_the_precision_is_set_in_the_models_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server there
    given = ["--precision", "fastest", "--env", "COLOUR=blue", "--plan"]
    assert main(["deploy", "flowers", *MODEL, *AWS, *given]) == 0
    shown = capsys.readouterr().out
    assert '"BERTH_PRECISION": "fastest"' in shown
    assert '"COLOUR": "blue"' in shown


def test_moto_accepts_every_request_of_a_deployment(
    moto_aws: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["flowers", *MODEL, *AWS, "--ttl", "2h", "--max-instances", "2"]
    assert main(["deploy", *arguments]) == 0, capsys.readouterr().err
    (schedule,) = moto_aws.client("scheduler").list_schedules()["Schedules"]
    assert schedule["Name"] == "berth-ttl-flowers"
    found = moto_aws.client("scheduler").get_schedule(Name=schedule["Name"])
    assert json.loads(found["Target"]["Input"]) == {"EndpointName": "flowers"}
    assert "endpoint flowers is in service" in capsys.readouterr().out
    (target,) = moto_aws.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker"
    )["ScalableTargets"]
    assert target["MaxCapacity"] == 2


def test_the_plan_of_a_multi_model_endpoint_names_the_prefix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # no server there
    assert main(["deploy", "gardens", *MANY, *AWS, "--plan"]) == 0
    shown = capsys.readouterr().out
    assert '"Mode": "MultiModel"' in shown
    assert '"ModelDataUrl": "s3://bucket/models/"' in shown
    assert '"arn:aws:s3:::bucket/models/*"' in shown
