"""Whether a job is to be debugged or profiled: by SageMaker's configuration or by hyperparameters.

Nothing here imports the debugger or the profiler, so that a job that needs neither loads neither.
"""

import os
from pathlib import Path


def hook_file(base: Path) -> Path:
    """The debugger's configuration: what `SMDEBUG_CONFIG_FILE_PATH` names, or SageMaker's file.

    Args:
        base: the root of SageMaker's tree; so below.
    """
    named = os.environ.get("SMDEBUG_CONFIG_FILE_PATH")
    return Path(named) if named else base / "input" / "config" / "debughookconfig.json"


def profiler_file(base: Path) -> Path:
    """The profiler's configuration, which SageMaker rewrites while the job runs."""
    return base / "input" / "config" / "profilerconfig.json"


def has_hook_file(base: Path) -> bool:
    """Whether a configuration of the debugger was given; one that is named may be missing."""
    return "SMDEBUG_CONFIG_FILE_PATH" in os.environ or hook_file(base).exists()


def is_debugged(base: Path, debug: bool | None) -> bool:
    """Whether tensors are to be saved: by the hyperparameter, or where it is None by the file."""
    return has_hook_file(base) if debug is None else debug


def is_profiled(base: Path, profile: bool | None) -> bool:
    """Whether time may be measured: by the hyperparameter, or where it is None by the file.

    The file can still disable the profiler; `ProfilerSettings.read` decides.
    """
    return profiler_file(base).exists() if profile is None else profile
