"""SageMaker's log groups in CloudWatch Logs; each name is a CloudWatch namespace as well."""

TRAINING_JOBS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_JOBS = "/aws/sagemaker/TransformJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints"
"""An endpoint has a log group of its own below this name: `endpoint`."""


def endpoint(name: str) -> str:
    """The log group of an endpoint."""
    return f"{ENDPOINTS}/{name}"
