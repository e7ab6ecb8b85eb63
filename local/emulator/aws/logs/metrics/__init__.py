"""Metrics from log events: the embedded metric format, and metric filters."""
