"""Endpoints and their invocations."""
