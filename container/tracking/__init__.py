"""Experiment tracking: parameters, metrics and files of a job in MLflow, where one is named."""
