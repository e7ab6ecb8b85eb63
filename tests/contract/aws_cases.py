"""Cases for test_aws_requests.py: command lines, and the AWS resources that exist beforehand."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from local.requests.presets import PRESETS

REGION, ACCOUNT = "us-east-1", "123456789012"
BUCKET = f"berth-{REGION}-{ACCOUNT}"
DATA = f"s3://{BUCKET}/data/pets/"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/berth-jobs"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
MODEL = f"s3://{BUCKET}/jobs/first/output/model.tar.gz"
FIRST = f"train {DATA} --name first --no-wait"
SEARCH = f"tune {DATA} --name search --no-wait -r lr=0.001:0.1:log -r batch_size=32,64"
FLOWERS = f"deploy flowers --model-data {MODEL}"


class Moto:
    """A moto server, with access to its state and answers for the operations it lacks."""

    def __init__(self, url: str, client: Callable[[str], Any]) -> None:
        self.url, self.client = url, client

    @property
    def kept(self) -> Any:
        """The state of moto's SageMaker."""
        from moto.sagemaker.models import sagemaker_backends

        return sagemaker_backends[ACCOUNT][REGION]

    def answers(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """Answers to the operations that moto 5.2 lacks; they update moto's state."""
        return {
            "ListTrainingJobsForHyperParameterTuningJob": self._trials,
            "UpdateEndpoint": self._update,
            "StopTrainingJob": lambda _: {},
            "StopHyperParameterTuningJob": lambda _: {},
            "StopTransformJob": lambda _: {},
        }

    def _trials(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["HyperParameterTuningJobName"]
        trial = {
            "TrainingJobName": f"{name}-001-0123abcd",
            "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}-001",
            "TrainingJobStatus": "Completed",
            "CreationTime": 1767323045,
            "TrainingStartTime": 1767323046,
            "TrainingEndTime": 1767323099,
            "TunedHyperParameters": {"lr": "0.01", "batch_size": "32"},
            "FinalHyperParameterTuningJobObjectiveMetric": {
                "MetricName": "validation:accuracy",
                "Value": 0.9,
            },
            "ObjectiveStatus": "Succeeded",
        }
        return {"TrainingJobSummaries": [trial]}

    def _update(self, request: dict[str, Any]) -> dict[str, Any]:
        endpoint = self.kept.endpoints[request["EndpointName"]]
        endpoint.endpoint_config_name = request["EndpointConfigName"]
        return {"EndpointArn": endpoint.arn}


Preparation = Callable[[Moto], None]


@dataclass(frozen=True)
class Case:
    """A command that sends requests to AWS.

    Attributes:
        command: the words after `berth`; `--where aws` is added.
        given: commands that are run beforehand.
        before: prepares moto after `given`.
        plans: whether `--plan` shows the same requests.
        files: files in the command's working directory.
    """

    command: str
    given: tuple[str, ...] = ()
    before: Preparation = lambda _: None
    plans: bool = True
    files: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the files and a folder of pictures to `folder`."""
        pictures = {
            f"photos/{kind}/{number}.png": kind for kind in ("cat", "dog") for number in "12"
        }
        for name, text in (pictures | dict(self.files)).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def bucket(moto: Moto) -> None:
    """Create the bucket with a data set of three splits."""
    s3 = moto.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for split in ("train", "validation", "test"):
        for name in ("cat", "dog"):
            s3.put_object(Bucket=BUCKET, Key=f"data/pets/{split}/{name}/1.png", Body=b"x")


def prepare(moto: Moto, *steps: Preparation) -> None:
    """Run several preparations in order."""
    for step in steps:
        step(moto)


def running(moto: Moto) -> None:
    """Set the status of all jobs to InProgress."""
    for job in moto.kept.training_jobs.values():
        job.training_job_status = "InProgress"
    for job in moto.kept.hyper_parameter_tuning_jobs.values():
        job.hyper_parameter_tuning_job_status = "InProgress"
    for job in moto.kept.transform_jobs.values():
        job.transform_job_status = "InProgress"


def tuned(moto: Moto) -> None:
    """Set the tuned hyperparameters of the tuning job's best training job."""
    best = moto.kept.hyper_parameter_tuning_jobs["search"].best_training_job
    best["TunedHyperParameters"] = {"lr": "0.0123", "batch_size": '"64"'}


def answered(moto: Moto) -> None:
    """Write the output of a batch transform job."""
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        moto.client("s3").put_object(
            Bucket=BUCKET, Key=f"transform/night/output/{name}.out", Body=predictions(1)
        )


def recorded(moto: Moto) -> None:
    """Write the system metrics that SageMaker's profiler stores for a training job."""
    s3 = moto.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    key = "jobs/first/profiler-output/system/incremental/2026010203/1767323100.algo-1.json"
    used = {"Type": "cpu", "Name": "cpu0", "Dimension": "CPUUtilization", "Value": 50.0}
    lines = [used | {"NodeId": "algo-1", "Timestamp": 1767323045.5 + n} for n in range(9)]
    s3.put_object(Bucket=BUCKET, Key=key, Body="\n".join(map(json.dumps, lines)))


def model(moto: Moto) -> None:
    """Create a model."""
    moto.client("sagemaker").create_model(
        ModelName="flowers",
        PrimaryContainer={"Image": f"{HOST}/berth:latest", "ModelDataUrl": MODEL},
        ExecutionRoleArn=ROLE,
    )


def transform(moto: Moto) -> None:
    """Create a batch transform job with the model."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/photos/"}}
    moto.client("sagemaker").create_transform_job(
        TransformJobName="night",
        ModelName="flowers",
        TransformInput={"DataSource": source},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )


def predicting(images: int) -> Preparation:
    """Let the endpoint answer every request with `images` predictions."""

    def prepare(moto: Moto) -> None:
        answer = {
            "Body": predictions(images).decode(),
            "ContentType": "application/json",
            "InvokedProductionVariant": "AllTraffic",
            "CustomAttributes": "",
        }
        requests.post(
            f"{moto.url}/moto-api/static/sagemaker/endpoint-results",
            json={"account_id": ACCOUNT, "region": REGION, "results": [answer] * 4},
            timeout=10,
        ).raise_for_status()

    return prepare


def predictions(images: int) -> bytes:
    """The container's response to `images` images."""
    row = {"top": [{"label": "cat", "probability": 0.75}, {"label": "dog", "probability": 0.25}]}
    return json.dumps({"predictions": [row] * images}).encode()


RANGES = """
ranges:
  learning_rate: 0.001:0.1:log
  momentum: 0.5:0.99:reverselog
  epochs: 2:8
  batch_size: [16, 32]
hyperparameters:
  optimizer: sgd
  arch: resnet34
"""

OWN_RULES = """
from smdebug.rules.rule import Rule


class Mine(Rule):
    def __init__(self, base_trial, most=7):
        super().__init__(base_trial, action_str="")
        self.most = float(most)

    def invoke_at_step(self, step):
        return step > self.most
"""

UPLOADS = {
    "upload": Case("data upload photos --no-lint"),
    "upload-elsewhere": Case(
        f"data upload photos --no-lint --region eu-west-1 --bucket pets-{ACCOUNT} "
        "--prefix new/pets --kms-key alias/pets"
    ),
    "upload-changes": Case(
        "data upload photos --no-lint --delete",
        given=("data upload photos --no-lint",),
        before=lambda moto: moto.client("s3").put_object(
            Bucket=BUCKET, Key="data/photos/cow/1.png", Body=b"x"
        ),
    ),
}
TRAINING = {
    "train": Case(f"train {DATA} -p epochs=3 -p lr=0.01", before=bucket),
    "train-spot": Case(
        f"train {DATA} --name first --no-wait --spot --max-run 7200 --retries 3", before=bucket
    ),
    "train-everything": Case(
        f"train {DATA} --name first --no-wait --hyperparameters best.yaml -p epochs=9 "
        f"--weights-from s3://{BUCKET}/weights/ --channel more=s3://{BUCKET}/more/ "
        f"--input-mode FastFile --instance-type ml.c5.4xlarge --instance-count 2 --volume-gb 100 "
        f"--max-run 3600 --spot --max-wait 9000 --checkpoints s3://{BUCKET}/kept/first --retries 2 "
        f"--subnet subnet-0a --subnet subnet-0b --security-group sg-0c --network-isolation "
        f"--encrypt-traffic --volume-kms-key {KEY} --output-kms-key {KEY} --env LOG_LEVEL=debug "
        f"--env EMPTY= --tags team=vision --tags cost=low --role berth-jobs",
        before=bucket,
        files={"best.yaml": "arch: resnet34\nlearning_rate: 0.02\nfreeze: true\n"},
    ),
    "train-from-tuning": Case(
        f"train {DATA} --name first --no-wait --from-tuning search -p epochs=10",
        given=(f"{SEARCH} -p arch=resnet34",),
        before=tuned,
    ),
    "train-watched": Case(
        f"train {DATA} --name first --no-wait --profile --debug --rules Overfit,DeadRelu "
        "--rules VanishingGradient --rule-parameter Overfit_patience=3 "
        "--rule-parameter LowGPUUtilization_patience=100 --stop-on Overfit "
        "-p save_interval=100 -p profile_interval=1000",
        before=bucket,
    ),
    "train-own-rules": Case(
        f"train {DATA} --name first --no-wait --rules-file mine.py --rule-parameter Mine_most=9",
        before=bucket,
        files={"mine.py": OWN_RULES},
    ),
    "train-aws-debugger": Case(
        f"train {DATA} --name first --no-wait --aws-debugger --profile --debug --rules auto "
        "--rules AllZero --rule-parameter AllZero_tensor_regex=.*weight --stop-on Overfit "
        "--rule-parameter BatchSize_patience=100 -p save_interval=100 -p profile_interval=1000",
        before=bucket,
    ),
    "train-another-image": Case(
        f"train {DATA} --name first --no-wait --image-uri {HOST}/theirs:2 -p anything=goes "
        "--metric 'score=score: ([0-9.]+)'",
        before=bucket,
    ),
}
TUNING = {
    **{
        f"tune-preset-{name}": Case(f"tune {DATA} --no-wait --preset {name}", before=bucket)
        for name in PRESETS
    },
    "tune-features": Case(
        f"tune {DATA} --name search --no-wait --features --features-instance ml.g5.xlarge "
        "-p freeze=true -r lr=0.001:0.1:log -r epochs=2:10:int --spot --env LOG_LEVEL=debug",
        before=bucket,
    ),
    "tune-no-features": Case(
        f"tune {DATA} --name search --no-wait --no-features -p freeze=true -r lr=0.001:0.1:log",
        before=bucket,
    ),
    "tune-profiled": Case(
        f"{SEARCH} --profile --rule-parameter StepOutlier_stddev=5", before=bucket
    ),
    "tune-file": Case(
        f"tune {DATA} --name search --ranges search.yaml --jobs 4",
        before=bucket,
        files={"search.yaml": RANGES},
    ),
    "tune-hyperband": Case(
        f"tune {DATA} --name search --no-wait --strategy Hyperband -r lr=0.001:0.1:log "
        "--min-resource 2 --max-resource 16 -p epochs=16 --jobs 20 --parallel 4",
        before=bucket,
    ),
    "tune-grid": Case(
        f"tune {DATA} --name search --no-wait --strategy Grid -r batch_size=32,64 "
        "-r optimizer=sgd,adamw --parallel 4",
        before=bucket,
    ),
    "tune-warm-start": Case(
        f"tune {DATA} --name again --no-wait -r lr=0.01:0.1 -r batch_size=32,64 "
        "--warm-start search --identical --objective validation:accuracy",
        given=(SEARCH,),
    ),
    "tune-transfer": Case(
        f"tune {DATA} --name again --no-wait -r lr=0.01:0.1 -p batch_size=64 --warm-start search",
        given=(SEARCH,),
    ),
    "tune-stops-early": Case(
        f"{SEARCH} --early-stopping --target 0.95 --max-stagnation 5 --search-runtime 7200 "
        "--seed 7 --objective validation:loss --goal Minimize",
        before=bucket,
    ),
    "tune-everything": Case(
        f"{SEARCH} --strategy Random --jobs 30 --parallel 5 --spot --max-run 1800 --retries 1 "
        f"--subnet subnet-0a --security-group sg-0c --network-isolation --encrypt-traffic "
        f"--instance-type ml.m5.xlarge --volume-kms-key {KEY} --output-kms-key {KEY} "
        "--instance-count 2 --env LOG_LEVEL=debug --tags team=vision",
        before=bucket,
    ),
}
SERVING = {
    "deploy-job": Case("deploy flowers --job first", given=(FIRST,)),
    "deploy-everything": Case(
        f"deploy flowers --model-data {MODEL} --image-uri {HOST}/berth@sha256:{'0' * 64} "
        f"--instance-type ml.m5.xlarge --instance-count 2 --env LOG_LEVEL=debug --startup 900 "
        f"--subnet subnet-0a --security-group sg-0c --network-isolation --kms-key {KEY} "
        f"--capture s3://{BUCKET}/captured --capture-percent 20 --tags team=vision",
    ),
    "deploy-multi-model": Case(f"deploy gardens --multi-model s3://{BUCKET}/models"),
    "deploy-gpu": Case(f"{FLOWERS} --instance-type ml.g4dn.xlarge --no-wait"),
    "deploy-serverless": Case(f"{FLOWERS} --serverless --memory 3072 --concurrency 10"),
    "deploy-scaling": Case(f"{FLOWERS} --max-instances 4 --calls-per-instance 250"),
    "deploy-async": Case(f"{FLOWERS} --async-output s3://{BUCKET}/answers"),
    "deploy-async-scaling": Case(
        f"{FLOWERS} --async-output s3://{BUCKET}/answers --max-instances 3"
    ),
    "deploy-ttl": Case(f"{FLOWERS} --ttl 2h --scheduler-role arn:aws:iam::{ACCOUNT}:role/ender"),
    "deploy-long-name": Case(
        f"deploy {'flowers-' * 6}of-the-meadows --model-data {MODEL} --ttl 1d"
    ),
    "deploy-update": Case(f"{FLOWERS} --update", given=(FLOWERS,)),
    "deploy-update-ttl": Case(f"{FLOWERS} --update --ttl 3h", given=(f"{FLOWERS} --ttl 2h",)),
    "transform-folder": Case(
        f"transform photos --job first --name night --kms-key {KEY}",
        given=(FIRST,),
        before=answered,
    ),
    "transform-prefix": Case(
        f"transform s3://{BUCKET}/photos/ --model flowers --name night --instance-count 2 "
        f"--instance-type ml.c5.xlarge --env BERTH_PRECISION=bfloat16 --tags team=vision --json",
        before=lambda moto: prepare(moto, bucket, answered, model),
    ),
    "invoke": Case(
        "invoke flowers photos/cat/1.png --top-k 2 --variant AllTraffic",
        given=(FLOWERS,),
        before=predicting(1),
    ),
    "invoke-target-model": Case(
        "invoke gardens photos/cat/1.png --target-model roses.tar.gz",
        given=(f"deploy gardens --multi-model s3://{BUCKET}/models",),
        before=predicting(1),
    ),
    "invoke-batch": Case(
        "invoke flowers photos --batch 4 --json",
        given=(FLOWERS,),
        before=predicting(4),
    ),
}
LOOKING = {
    "jobs": Case("jobs", given=(FIRST, SEARCH, FLOWERS), plans=False),
    "jobs-of-a-status": Case("jobs --status InService --limit 5 --json", plans=False),
    "logs": Case("logs first", given=(FIRST,), plans=False),
    "report": Case("report search --no-open", given=(SEARCH,), plans=False),
    "report-recorded": Case(
        f"report s3://{BUCKET}/jobs/first --no-open", before=recorded, plans=False
    ),
    "stop-training": Case("stop first", given=(FIRST,), before=running, plans=False),
    "stop-tuning": Case("stop search", given=(SEARCH,), before=running, plans=False),
    "stop-transform": Case(
        "stop night",
        before=lambda moto: prepare(moto, bucket, model, transform, running),
        plans=False,
    ),
    "delete": Case("delete flowers --yes", given=(f"{FLOWERS} --ttl 2h",), plans=False),
    "delete-all": Case(
        "delete --all --yes", given=(FLOWERS, FLOWERS.replace("flowers", "trees")), plans=False
    ),
    "push": Case("push"),
    "push-immutable": Case("push --repository team/berth --tag v1 --immutable --tags team=vision"),
    "push-again": Case("push", given=("push",), plans=False),
}
CASES = UPLOADS | TRAINING | TUNING | SERVING | LOOKING
