"""Statuses of SageMaker jobs, as the API spells them."""

TERMINAL = ("Completed", "Failed", "Stopped")
"""Final statuses of training, tuning and transform jobs."""
