"""The SageMaker Python SDK's configuration file: the default bucket and role.

Without it both major versions query STS, at an address of AWS's that no variable changes.
`SAGEMAKER_USER_CONFIG_OVERRIDE` names the file.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

VARIABLE = "SAGEMAKER_USER_CONFIG_OVERRIDE"
"""The variable that names the file, in SDK v2 and v3."""


def configuration(bucket: str, role: str) -> dict[str, Any]:
    """The file's content, as "Configuring and using defaults with the SageMaker Python SDK" has it.

    Args:
        bucket: where `Session().default_bucket()` is; the SDK makes it when it is missing.
        role: ARN of the role of jobs, models and pipelines that name none.
    """
    jobs = ("AutoMLJob", "Pipeline", "ProcessingJob", "TrainingJob")
    modules = {
        "RemoteFunction": {"RoleArn": role},
        "Session": {"DefaultS3Bucket": bucket},
        "TelemetryOptOut": True,
    }
    return {
        "SchemaVersion": "1.0",
        "SageMaker": {
            **{job: {"RoleArn": role} for job in jobs},
            "Model": {"ExecutionRoleArn": role},
            "PythonSDK": {"Modules": modules},
        },
    }


def write(path: Path, bucket: str, role: str) -> None:
    """Write the file; complete at once."""
    import yaml

    text = yaml.safe_dump(configuration(bucket, role), sort_keys=False)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)
