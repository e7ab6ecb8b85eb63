"""SageMaker's log groups in CloudWatch Logs; the names are also its CloudWatch namespaces."""

TRAINING_JOBS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_JOBS = "/aws/sagemaker/TransformJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints"
"""Each endpoint has its own log group below this name; see `endpoint`."""


def endpoint(name: str) -> str:
    """The log group of an endpoint."""
    return f"{ENDPOINTS}/{name}"
