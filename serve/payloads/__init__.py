"""Payloads of `/invocations`: bodies, media types, arrays and images."""
