"""Metrics that CloudWatch makes of log events: embedded ones, and those of metric filters."""
