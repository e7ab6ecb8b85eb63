"""SageMaker's Python SDK, offline, configured only by the variables `berth env` prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

from local.client import sdk_configuration
from local.emulator.home import Home
from local.emulator.server import Server
from tests.unit.local.emulator.server_harness import access_key, client

OFFLINE = Path(__file__).parents[3] / "contract" / "offline"
ROLE = "arn:aws:iam::123456789012:role/berth"
ASK = """
import json
from botocore.exceptions import ClientError
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.config.config_schema import MODEL_EXECUTION_ROLE_ARN_PATH
from sagemaker.core.config.config_schema import TRAINING_JOB_ROLE_ARN_PATH
from sagemaker.core.common_utils import resolve_value_from_config
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute

session = Session()
roles = [
    resolve_value_from_config(config_path=path, sagemaker_session=session)
    for path in (TRAINING_JOB_ROLE_ARN_PATH, MODEL_EXECUTION_ROLE_ARN_PATH)
]
trainer = ModelTrainer(
    training_image="berth:latest",
    role="{role}",
    compute=Compute(instance_type="ml.m5.large", instance_count=1),
    base_job_name="plain",
    sagemaker_session=session,
)
try:
    trainer.train(wait=False)
except ClientError as error:
    said = str(error)
print(json.dumps([session.default_bucket(), roles, said]))
""".replace("{role}", ROLE)


def test_the_sdk_finds_bucket_and_role_without_calling_sts(server: Server, home: Home) -> None:
    bucket = "berth-us-east-1-123456789012"
    sdk_configuration.write(home.sdk_file, bucket, ROLE)
    keys = access_key(server.url)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **{name.upper(): value for name, value in keys.items()},
        "AWS_ENDPOINT_URL": server.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        sdk_configuration.VARIABLE: str(home.sdk_file),
        "PYTHONPATH": str(OFFLINE),
    }
    command = [sys.executable, "-W", "ignore", "-c", ASK]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found, roles, said = json.loads(done.stdout.splitlines()[-1])
    assert found == bucket
    assert roles == [ROLE, ROLE]
    assert "berth:latest: not here" in said  # it got as far as sending the request
    made = [each["Name"] for each in client(server.url, "s3").list_buckets()["Buckets"]]
    assert made == [bucket]
