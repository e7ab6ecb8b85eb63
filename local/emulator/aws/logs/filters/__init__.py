"""CloudWatch Logs' filter patterns (user guide, "Filter pattern syntax")."""

from local.emulator.aws.logs.filters.pattern import compile_pattern

__all__ = ["compile_pattern"]
