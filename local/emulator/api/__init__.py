"""SageMaker's API: the wire, its operations and its rules."""
