"""The SageMaker Python SDK's configuration file: the default bucket and role.

Without it, SDK v2 and v3 query STS at a fixed AWS address that no environment variable overrides.
`SAGEMAKER_USER_CONFIG_OVERRIDE` names the file.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

VARIABLE = "SAGEMAKER_USER_CONFIG_OVERRIDE"
"""The environment variable that names the file, in SDK v2 and v3."""


def configuration(bucket: str, role: str) -> dict[str, Any]:
    """The file's content; see "Configuring and using defaults with the SageMaker Python SDK".

    Args:
        bucket: the default bucket, which the SDK creates if it is missing.
        role: ARN of the default role of jobs, models and pipelines.
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
    """Write the file atomically."""
    import yaml

    text = yaml.safe_dump(configuration(bucket, role), sort_keys=False)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    finally:
        Path(draft).unlink(missing_ok=True)
