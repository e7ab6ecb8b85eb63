"""Requests and answers of `/invocations`: bodies, media types, arrays and images."""
