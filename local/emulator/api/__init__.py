"""SageMaker's API: the wire protocol, the operations and their validation."""
