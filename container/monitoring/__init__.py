"""Monitoring of a training job: the debugger, the profiler and their callback."""
