"""A SageMaker on this machine: the same API, really running the image."""
