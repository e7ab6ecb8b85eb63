"""Inference: engines for each device, their batching queue and their precision."""
