"""Validation beyond the service model: checks that raise AWS's errors."""
