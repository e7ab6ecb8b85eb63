"""Experiment tracking: logs parameters, metrics and files of a job to MLflow."""
