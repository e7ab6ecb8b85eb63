"""The statuses of SageMaker's jobs that decide what happens next, as its API spells them."""

TERMINAL = ("Completed", "Failed", "Stopped")
"""A training, tuning or transform job with one of these does not change any more."""
