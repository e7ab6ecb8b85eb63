"""Verification of request signatures, and the service and region of a request."""
