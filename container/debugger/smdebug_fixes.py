"""The one door to smdebug 1.0.34: whoever needs it imports from here, and finds it put right.

What is wrong with it, and what is done here:

- Importing it warns a hundred times (generated protobuf code, `distutils`, `six`): imported with
  warnings off.
- It logs every step of its own to standard output, and remembers each distinct line for ever: its
  logger is off unless `SMDEBUG_LOG_LEVEL` is set.
- It starts a profiler of its own when `profilerconfig.json` is there, whose every value it has
  lower-cased, paths too: it does not get to see the file.
- It writes no end-of-job marker when `TRAINING_JOB_NAME` is set, so readers of a finished job wait
  for ever: `mark_end` writes it, whatever is set.
- Its readers sleep for a second when they see that marker, though the files are there: `open_trial`
  does not.
- Its constructor refuses a folder that holds the marker, and a claim file left by a process that
  was killed silences every later one: neither is looked at.
- Its constructor swallows errors and leaves half a hook behind: called without that wrapper.
- It registers three exit handlers and a global hook, each of which keeps the network alive and
  writes to the folder as Python ends: taken back.
- It searches the checkpoint folder at every step and writes `metadata.json` into it: not done.
- It takes the worker's number from Horovod or the process group; here the caller says it.
- A failed write kills its writer thread and the next one then blocks training for ever: written in
  the calling thread, so that the error arrives where it can be handled.
- `ndarray.tostring`, gone from NumPy 2.3: `tobytes`.
- NumPy knows no bfloat16 nor the 8-bit floats: widened to float32, as is every reduction of halves,
  integers and booleans (a mean of integers is an error, a sum of halves overflows).
- `save_raw_tensor` and `save_shape` must be booleans though every other parameter is a string: read
  as its own `parse_bool` reads the rest.
- A histogram with an infinite or undefined value has no buckets: those values are left out.
"""

import atexit
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def _hushed() -> Iterator[None]:
    """While smdebug is imported: no warnings, no log, no profiler configuration."""
    hidden = {"SMDEBUG_LOG_LEVEL": "off", "SMPROFILER_CONFIG_PATH": f"{os.devnull}/none"}
    before = {name: os.environ.get(name) for name in hidden}
    os.environ.update(hidden)
    if before["SMDEBUG_LOG_LEVEL"] is not None:
        os.environ["SMDEBUG_LOG_LEVEL"] = before["SMDEBUG_LOG_LEVEL"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _hushed():
    import smdebug.core.singleton_utils as _singleton
    import smdebug.core.writer as _writer
    from smdebug.core.json_config import (
        add_collections_to_manager,
        collect_hook_config_params,
        get_include_collections,
    )
    from smdebug.core.modes import ModeKeys
    from smdebug.core.reductions import get_numpy_reduction
    from smdebug.core.save_config import SaveConfig
    from smdebug.core.tfevent.event_file_writer import EventFileWriter
    from smdebug.core.tfevent.events_writer import EventsWriter
    from smdebug.core.tfevent.index_file_writer import EventWithIndex
    from smdebug.core.tfevent.proto.tensor_pb2 import TensorProto
    from smdebug.core.tfevent.proto.tensor_shape_pb2 import TensorShapeProto
    from smdebug.core.tfevent.util import _get_proto_dtype
    from smdebug.core.locations import TensorLocation
    from smdebug.core.utils import (
        error_handling_agent,
        get_relative_event_file_path,
        parse_worker_name_from_file,
    )
    from smdebug.exceptions import (
        MissingCollectionFiles,
        NoMoreData,
        RuleEvaluationConditionMet,
        SMDebugError,
        StepNotYetAvailable,
        StepUnavailable,
        TensorUnavailable,
        TensorUnavailableForStep,
    )
    from smdebug.pytorch.hook import Hook
    from smdebug.rules.rule import Rule
    from smdebug.trials import create_trial
    from smdebug.trials.trial import Trial

__all__ = [
    "END_MARKER",
    "MissingCollectionFiles",
    "ModeKeys",
    "NoMoreData",
    "Rule",
    "RuleEvaluationConditionMet",
    "SMDebugError",
    "StepHook",
    "StepNotYetAvailable",
    "StepUnavailable",
    "TensorUnavailable",
    "TensorUnavailableForStep",
    "Trial",
    "create_trial",
    "mark_end",
    "open_trial",
]

END_MARKER = "training_job_end.ts"
"""The empty file that tells readers no more steps will come."""


def mark_end(folder: Path) -> None:
    """Tell readers of `folder` that no more steps will come."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / END_MARKER).touch()


def open_trial(folder: Path | str) -> Any:
    """`create_trial` for files that lie here: waits for the collections, but not at the end.

    Returns:
        An `smdebug.trials.trial.Trial`.
    """
    trial = create_trial(str(folder))
    trial._training_end_delay_refresh = 0
    return trial
