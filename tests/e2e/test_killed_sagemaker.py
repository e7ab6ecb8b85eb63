"""Jobs and endpoints of a local SageMaker that is killed are resumed by the next server."""

import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

from local.emulator.credentials import credentials
from local.emulator.executors.process_registry import MARK
from local.emulator.home import Home

pytestmark = pytest.mark.timeout(400)

LIMIT = 120
"""Seconds after which a wait fails; a wait takes a few on an idle machine."""
MORTAL = Path(__file__).with_name("mortal_sagemaker.py")
BUCKET = "bucket"
IMAGE = "toy:latest"
ROLE = "arn:aws:iam::123456789012:role/berth"
ENDED = ("Completed", "Failed", "Stopped")


class Local:
    """Starts and kills local SageMaker servers of one home, one after the other."""

    def __init__(self, home: Home, executor: str) -> None:
        self.home, self.executor = home, executor
        self.process: subprocess.Popen[str] | None = None
        self._clients: dict[str, Any] = {}

    def up(self, moment: Any = None, executor: str | None = None) -> None:
        """Start a server that kills itself at `moment` (see mortal_sagemaker.py)."""
        command = [sys.executable, str(MORTAL), str(self.home.path)]
        command += [executor or self.executor, json.dumps(moment)]
        with self.home.server_log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        url = self.process.stdout.readline().strip()
        self._clients = {
            service: boto3.client(
                service,
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id=credentials(self.home).key_id,
                aws_secret_access_key=credentials(self.home).secret,
                config=Config(retries={"total_max_attempts": 1}),
            )
            for service in ("sagemaker", "sagemaker-runtime", "s3", "logs")
        }

    def dies(self) -> None:
        """Wait until the server has killed itself."""
        assert self.process is not None
        assert self.process.wait(LIMIT) == -signal.SIGKILL, self.home.server_log.read_text()
        self._close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.dies()

    def down(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                assert self.process.wait(LIMIT) == 0, self.home.server_log.read_text()
            finally:
                self._close()

    def _close(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        for each in self._clients.values():
            each.close()

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        """The client's method for an operation of any service."""
        for each in self._clients.values():
            if hasattr(each, operation):
                return getattr(each, operation)
        raise AttributeError(operation)

    def ask(self, operation: str, **request: Any) -> None:
        """Send a request to a server that dies before it answers."""
        with pytest.raises((HTTPClientError, EndpointConnectionError)):
            getattr(self, operation)(**request)

    def training(self, name: str) -> dict[str, Any]:
        return self.describe_training_job(TrainingJobName=name)

    def trained(self, name: str) -> dict[str, Any]:
        until(lambda: self.training(name)["TrainingJobStatus"] in ENDED)
        return self.training(name)

    def endpoint(self, name: str = "endpoint") -> str:
        return self.describe_endpoint(EndpointName=name)["EndpointStatus"]

    def who(self) -> dict[str, Any]:
        answer = self.invoke_endpoint(EndpointName="endpoint", Body=b"who")
        return json.loads(answer["Body"].read())

    def keys(self, prefix: str) -> list[str]:
        found = self.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [each["Key"] for each in found]

    def log(self, name: str) -> list[str]:
        try:
            events = self.filter_log_events(
                logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
            )["events"]
        except self._clients["logs"].exceptions.ResourceNotFoundException:
            return []  # no job has started yet
        return [event["message"] for event in events]

    def left(self) -> list[str]:
        """Processes, containers and networks of this home, and its records of them."""
        mark = f"{self.home.id}/"
        found = [path.name for path in (self.home.path / "processes").glob("*")]
        for process in psutil.process_iter():
            try:
                value = process.environ().get(MARK, "")
            except psutil.Error:
                continue
            found += [value] if value.startswith(mark) else []
        found += [self.home.containers_marker.name] if self.home.containers_marker.exists() else []
        return found + [each.name for each in self.containers()]

    def containers(self) -> list[Any]:
        import docker

        if self.executor != "docker":
            return []
        engine = docker.from_env()
        ours = {"label": f"berth.home={self.home.id}"}
        try:
            return [
                *engine.containers.list(all=True, filters=ours, ignore_removed=True),
                *engine.networks.list(filters=ours),
            ]
        finally:
            engine.close()


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Local]:
    if request.param == "docker":
        request.getfixturevalue("toy_image")
    local = Local(Home.find(tmp_path / "home"), request.param)
    local.up()
    local.create_bucket(Bucket=BUCKET)
    try:
        yield local
    finally:
        local.down()
    assert local.left() == []


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"waited {LIMIT} s in vain"
        time.sleep(0.05)


def definition(hosts: int = 1) -> dict[str, Any]:
    return {
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "score", "Regex": "toy:score=(.*?);"}],
        },
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {
            "InstanceType": "ml.m5.large",
            "InstanceCount": hosts,
            "VolumeSizeInGB": 1,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }


def job(name: str, hosts: int = 1, **hyperparameters: str) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "HyperParameters": hyperparameters,
        **definition(hosts),
    }


def tuning(total: int, **hyperparameters: str) -> dict[str, Any]:
    return {
        "HyperParameterTuningJobName": "tuning",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "RandomSeed": 3,
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": total, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {"Name": "learning_rate", "MinValue": "0.01", "MaxValue": "1"}
                ]
            },
        },
        "TrainingJobDefinition": {"StaticHyperParameters": hyperparameters, **definition()},
    }


def model(local: Local, name: str, rate: str) -> None:
    """A model and an endpoint configuration of the same name."""
    packed = io.BytesIO()
    content = json.dumps({"rate": rate}).encode()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("model.json")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    local.put_object(Bucket=BUCKET, Key=f"{name}.tar.gz", Body=packed.getvalue())
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/{name}.tar.gz"}
    local.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {
        "VariantName": "all",
        "ModelName": name,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }
    local.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


def transform(name: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}
    return {
        "TransformJobName": name,
        "ModelName": "first",
        "MaxConcurrentTransforms": 1,
        "TransformInput": {"DataSource": {"S3DataSource": source}},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/{name}"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }


def test_training_jobs_complete_after_a_kill_at_each_status(local: Local) -> None:
    statuses = ("Starting", "Pending", "Downloading", "Training", "Uploading", "Completed")
    for status in statuses:
        name = f"at-{status.lower()}"
        local.down()
        local.up(["training-job", name, "SecondaryStatus", status])
        try:
            local.create_training_job(**job(name))
        except (HTTPClientError, EndpointConnectionError):
            assert status in ("Starting", "Pending"), "only an early end leaves no answer"
        local.dies()
        local.up()
        done = local.trained(name)
        assert done["TrainingJobStatus"] == "Completed", done
        seen = [each["Status"] for each in done["SecondaryStatusTransitions"]]
        assert seen.count("Interrupted") == (status == "Training"), seen
        assert seen[-1] == "Completed"
        assert local.keys(f"out/{name}/output/") == [
            f"out/{name}/output/model.tar.gz",
            f"out/{name}/output/output.tar.gz",
        ]
        assert {each["MetricName"] for each in done["FinalMetricDataList"]} == {"score"}
        assert local.log(name)[-1] == "toy: done"
    assert len(local.list_training_jobs()["TrainingJobSummaries"]) == len(statuses)


def test_a_stopping_training_job_is_stopped_after_a_kill(local: Local) -> None:
    local.down()
    local.up(["training-job", "job", "TrainingJobStatus", "Stopping"])
    local.create_training_job(**job("job", epochs="10000"))
    until(lambda: "toy: epoch 2 toy:score=0.833333;" in local.log("job"))
    local.ask("stop_training_job", TrainingJobName="job")
    local.dies()
    local.up()
    assert local.trained("job")["TrainingJobStatus"] == "Stopped"


def test_an_endpoint_recovers_from_a_kill_at_each_status(local: Local) -> None:
    for name in ("first", "second"):
        model(local, name, rate=name)

    def restart(status: str) -> None:
        local.down()
        local.up(["endpoint", "endpoint", "EndpointStatus", status])

    local.down()
    local.up()
    local.create_endpoint(EndpointName="endpoint", EndpointConfigName="first")
    local.kill()
    restart("InService")
    local.dies()
    restart("SystemUpdating")
    local.dies()
    local.up()
    until(lambda: local.endpoint() == "InService")
    assert local.who() == {"rate": "first"}
    restart("Updating")
    until(lambda: local.endpoint() == "InService")
    local.ask("update_endpoint", EndpointName="endpoint", EndpointConfigName="second")
    local.dies()
    local.up()
    until(lambda: local.endpoint() == "InService")
    assert local.who() == {"rate": "second"}
    restart("Deleting")
    until(lambda: local.endpoint() == "InService")
    local.ask("delete_endpoint", EndpointName="endpoint")
    local.dies()
    local.up()
    until(lambda: local.list_endpoints()["Endpoints"] == [])
    assert not local.home.job("endpoint", "endpoint").exists()


def test_transform_jobs_complete_or_stop_after_a_kill(local: Local) -> None:
    model(local, "first", rate="first")
    for number in range(6):
        local.put_object(Bucket=BUCKET, Key=f"in/{number}", Body=b"sleep 0.3")
    local.create_transform_job(**transform("whole"))
    until(lambda: local.keys("whole/"))
    local.kill()
    local.up(["transform-job", "stopped", "TransformJobStatus", "Stopping"])

    def status(name: str) -> str:
        return local.describe_transform_job(TransformJobName=name)["TransformJobStatus"]

    until(lambda: status("whole") != "InProgress")
    assert status("whole") == "Completed"
    assert local.keys("whole/") == [f"whole/{number}.out" for number in range(6)]
    local.create_transform_job(**transform("stopped"))
    local.ask("stop_transform_job", TransformJobName="stopped")
    local.dies()
    local.up()
    assert status("stopped") == "Stopped"
    assert not local.home.job("transform-job", "stopped").exists()


def test_a_stopping_tuning_job_is_stopped_after_a_kill(local: Local) -> None:
    local.down()
    local.up(["hyper-parameter-tuning-job", "tuning", "HyperParameterTuningJobStatus", "Stopping"])
    local.create_hyper_parameter_tuning_job(**tuning(4, epochs="10000"))
    until(
        lambda: (
            len(local.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]) == 2
        )
    )
    local.ask("stop_hyper_parameter_tuning_job", HyperParameterTuningJobName="tuning")
    local.dies()
    local.up()
    until(lambda: tuned(local)["HyperParameterTuningJobStatus"] != "Stopping")
    assert tuned(local)["HyperParameterTuningJobStatus"] == "Stopped"
    counters = tuned(local)["TrainingJobStatusCounters"]
    assert (counters["Stopped"], counters["InProgress"]) == (2, 0)
    assert not local.list_training_jobs(StatusEquals="InProgress")["TrainingJobSummaries"]


def tuned(local: Local) -> dict[str, Any]:
    return local.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="tuning")


def created(local: Local, operation: str, **request: Any) -> None:
    """Send the request until it is accepted; a server that died may have stored it already."""
    try:
        getattr(local, operation)(**request)
    except (HTTPClientError, EndpointConnectionError):
        local.dies()
        local.up()
        created(local, operation, **request)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ResourceInUse", "ValidationException"):
            raise


def test_jobs_and_endpoints_complete_after_repeated_kills(local: Local) -> None:
    model(local, "first", rate="first")
    for number in range(4):
        local.put_object(Bucket=BUCKET, Key=f"in/{number}", Body=b"sleep 0.1")
    local.down()
    local.up(9)
    created(local, "create_training_job", **job("job", epochs="12"))
    created(local, "create_hyper_parameter_tuning_job", **tuning(4, epochs="4"))
    created(local, "create_endpoint", EndpointName="endpoint", EndpointConfigName="first")
    created(local, "create_transform_job", **transform("whole"))
    local.kill()
    for writes in (3, 7, 11, 16, 23, 31):
        local.up(writes)
        local.dies()
    local.up()
    assert local.trained("job")["TrainingJobStatus"] == "Completed"
    assert local.log("job")[-1] == "toy: done"
    until(lambda: tuned(local)["HyperParameterTuningJobStatus"] != "InProgress")
    job_of_tuning = tuned(local)
    assert job_of_tuning["HyperParameterTuningJobStatus"] == "Completed", job_of_tuning
    counters = job_of_tuning["TrainingJobStatusCounters"]
    assert counters == {
        "Completed": 4,
        "InProgress": 0,
        "RetryableError": 0,
        "NonRetryableError": 0,
        "Stopped": 0,
    }
    trials = local.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="tuning"
    )["TrainingJobSummaries"]
    assert {each["ObjectiveStatus"] for each in trials} == {"Succeeded"}
    assert len({each["TunedHyperParameters"]["learning_rate"] for each in trials}) == 4
    until(lambda: local.endpoint() == "InService")
    assert local.who() == {"rate": "first"}
    until(
        lambda: (
            local.describe_transform_job(TransformJobName="whole")["TransformJobStatus"]
            == "Completed"
        )
    )
    assert local.keys("whole/") == [f"whole/{number}.out" for number in range(4)]


@pytest.mark.docker
@pytest.mark.parametrize("local", ["docker", "process"], indirect=True)
def test_jobs_and_endpoints_resume_with_another_executor(local: Local, toy_image: str) -> None:
    other = {"docker": "process", "process": "docker"}[local.executor]
    model(local, "first", rate="first")
    local.create_endpoint(EndpointName="endpoint", EndpointConfigName="first")
    local.create_training_job(**job("job", epochs="40"))
    if local.executor == "docker":
        local.create_training_job(**job("hosts", hosts=2, epochs="10000"))
        until(lambda: local.log("hosts"))
    until(lambda: any("epoch 2 " in line for line in local.log("job")))
    until(lambda: local.endpoint() == "InService")
    before = local.left()
    local.kill()
    local.up(executor=other)
    done = local.trained("job")
    assert done["TrainingJobStatus"] == "Completed"
    assert any("resuming after epoch" in line for line in local.log("job"))
    until(lambda: local.endpoint() == "InService")
    assert local.who() == {"rate": "first"}
    if local.executor == "docker":
        assert "--executor docker" in local.trained("hosts")["FailureReason"]
        assert local.containers() == []
    assert before
    local.executor = other
    assert len(local.left()) == 2, "the endpoint's process or container, and the note of it"


def test_jobs_and_endpoints_resume_after_a_machine_restart(local: Local) -> None:
    model(local, "first", rate="first")
    local.create_endpoint(EndpointName="endpoint", EndpointConfigName="first")
    local.create_training_job(**job("job", epochs="20"))
    until(lambda: any("epoch 2 " in line for line in local.log("job")))
    until(lambda: local.endpoint() == "InService")
    local.kill()
    for container in local.containers():
        container.remove(force=True)
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(f"{local.home.id}/"):
                process.kill()
        except psutil.Error:
            continue
    local.up()
    assert local.trained("job")["TrainingJobStatus"] == "Completed"
    assert any("resuming after epoch" in line for line in local.log("job"))
    until(lambda: local.endpoint() == "InService")
    assert local.who() == {"rate": "first"}
