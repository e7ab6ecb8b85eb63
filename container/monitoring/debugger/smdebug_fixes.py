"""Workarounds for smdebug 1.0.34; the rest of the package imports its writing side from here.

Its problems, and what is done about each:

- Its generated protobuf code needs protobuf's Python implementation:
  `container.monitoring.debugger.smdebug_install`.
- Importing it warns a hundred times (generated protobuf code, `distutils`, `six`): imported with
  warnings off.
- It leaves a finder in `sys.meta_path` that lacks `find_spec`, so every later import warns:
  removed.
- It logs every step to standard output, and keeps each distinct line for ever: its logger is off
  unless `SMDEBUG_LOG_LEVEL` is set.
- It starts its own profiler when `profilerconfig.json` is there, and lower-cases its values, paths
  too: the file is hidden from it.
- It writes no end-of-job marker when `TRAINING_JOB_NAME` is set, so readers of a finished job wait
  for ever: `mark_end` always writes it.
- Its readers sleep for a second when they see that marker, though the files are there: `open_trial`
  does not.
- Its constructor refuses a folder that holds the marker, and the claim file of a process that was
  killed disables every later one: neither is checked.
- Its constructor swallows errors and leaves half a hook behind: called without that wrapper.
- It registers three exit handlers and a global hook, each of which keeps the network alive and
  writes to the folder as Python ends: unregistered.
- It searches the checkpoint folder at every step and writes `metadata.json` into it: not done.
- It takes the worker's number from Horovod or the process group; here the caller passes it.
- Its module hooks see an input after the module has overwritten it, and its gradient hooks see a
  gradient before it is averaged over ranks and unscaled: neither is registered; see
  `container.monitoring.debugger.hook`.
- Its collection `all` matches nothing unless `save_all` is set, and one without a regular
  expression fails in the first forward pass: `container.monitoring.debugger.settings` gives or
  demands one.
- A failed write kills its writer thread and the next one then blocks training for ever: written in
  the calling thread, so that the error can be handled.
- `ndarray.tostring`, gone from NumPy 2.3: `tobytes`.
- NumPy knows no bfloat16 nor the 8-bit floats: widened to float32, as is every reduction of halves,
  integers and booleans (a mean of integers is an error, a sum of halves overflows).
- `save_raw_tensor` and `save_shape` must be booleans though every other parameter is a string, and
  count only beside `reductions`: `container.monitoring.debugger.settings` converts them.
- A histogram with an infinite or undefined value has no buckets: those values are left out.
"""

import atexit
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from container.monitoring.debugger.smdebug_install import prepare

prepare()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without smdebug's warnings, log and profiler configuration."""
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


with _quiet():
    import smdebug.core.singleton_utils as _singleton
    import smdebug.core.writer as _writer
    from smdebug.core.json_config import (
        add_collections_to_manager,
        collect_hook_config_params,
        get_include_collections,
    )
    from smdebug.core.locations import TensorLocation
    from smdebug.core.modes import ModeKeys
    from smdebug.core.save_config import SaveConfig
    from smdebug.core.tfevent.event_file_writer import EventFileWriter
    from smdebug.core.tfevent.events_writer import EventsWriter
    from smdebug.core.tfevent.index_file_writer import EventWithIndex
    from smdebug.core.tfevent.proto.tensor_pb2 import TensorProto
    from smdebug.core.tfevent.proto.tensor_shape_pb2 import TensorShapeProto
    from smdebug.core.tfevent.util import _get_proto_dtype
    from smdebug.core.utils import (
        error_handling_agent,
        get_relative_event_file_path,
        match_inc,
        parse_worker_name_from_file,
    )
    from smdebug.exceptions import (
        NoMoreData,
        RuleEvaluationConditionMet,
        SMDebugError,
    )
    from smdebug.pytorch.hook import Hook
    from smdebug.trials import create_trial

sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

__all__ = [
    "END_MARKER",
    "ModeKeys",
    "NoMoreData",
    "RuleEvaluationConditionMet",
    "SMDebugError",
    "StepHook",
    "create_trial",
    "mark_end",
    "open_trial",
]

END_MARKER = "training_job_end.ts"
"""The empty file that marks the end of the saved steps."""


def mark_end(folder: Path) -> None:
    """Write the end-of-job marker into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / END_MARKER).touch()


def open_trial(folder: Path | str) -> Any:
    """`create_trial` for local files: waits for the collections, but not at the end.

    Returns:
        An `smdebug.trials.trial.Trial`.
    """
    trial = create_trial(str(folder))
    trial._training_end_delay_refresh = 0
    return trial


class _EventFile(EventFileWriter):  # type: ignore[misc]
    """smdebug's event file, written in the thread that calls."""

    def __init__(
        self,
        path: str,
        *,
        index_writer: Any = None,
        verbose: bool = False,
        write_checksum: bool = False,
        **_queue: Any,
    ) -> None:
        self._ev_writer = EventsWriter(path, index_writer, verbose, write_checksum)
        self._ev_writer.init()

    def write_event(self, event: Any) -> None:
        if not isinstance(event, EventWithIndex):
            self._ev_writer.write_event(event)
            return
        start, length = self._ev_writer.write_event(event.event)
        file = get_relative_event_file_path(self._ev_writer.name())
        self._ev_writer.index_writer.add_index(
            TensorLocation(
                tname=event.tensorname,
                mode=event.get_mode(),
                mode_step=event.mode_step,
                event_file_name=file,
                start_idx=start,
                length=length,
                worker=parse_worker_name_from_file(file),
            )
        )

    def flush(self) -> None:
        self._ev_writer.flush()

    def close(self) -> None:
        self._ev_writer.close()

    def abandon(self) -> None:
        """Close and delete a file that cannot be written."""
        record = self._ev_writer.tfrecord_writer
        self._ev_writer.tfrecord_writer = None
        if record is not None and record._writer is not None:
            _drop(record._writer)
            record._writer = None


def _drop(file: Any) -> None:
    """Close and delete the temporary file behind one of smdebug's, whatever its state."""
    with suppress(OSError, ValueError):
        file._accessor.close()
    with suppress(OSError):
        Path(file.temp_path).unlink()


def _tensor_proto(nparray_data: Any, tag: str) -> Any:
    _, dtype = _get_proto_dtype(nparray_data.dtype)
    sizes = [TensorShapeProto.Dim(size=size, name=f"{tag}_{size}") for size in nparray_data.shape]
    return TensorProto(
        dtype=dtype,
        tensor_content=nparray_data.tobytes(),
        tensor_shape=TensorShapeProto(dim=sizes),
    )


_writer.EventFileWriter = _EventFile
_writer.make_tensor_proto = _tensor_proto

_KNOWN_TO_NUMPY = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


class StepHook(Hook):  # type: ignore[misc]
    """smdebug's hook, driven step by step by its caller instead of by the network's forward pass.

    Args:
        configuration: `HookParameters` and `CollectionConfigurations`, already checked.
        folder: where tensors go.
        tensorboard: where summaries go, if anywhere.
        rank: of this process.
        workers: how many processes save tensors.

    Raises:
        SMDebugError, ValueError: the configuration is not one.
    """

    writer: Any

    def __init__(
        self,
        configuration: Mapping[str, Any],
        folder: Path,
        tensorboard: Path | None,
        *,
        rank: int,
        workers: int,
    ) -> None:
        self._rank, self._workers = rank, workers
        given = collect_hook_config_params(configuration)
        with _quiet():
            Hook.__init__.__wrapped__(
                self,
                out_dir=str(folder),
                tensorboard_dir=None if tensorboard is None else str(tensorboard),
                reduction_config=given["reduction_config"],
                save_config=SaveConfig.from_dict(given["save_config_modes"]),
                include_regex=given["include_regex"],
                include_collections=get_include_collections(configuration),
                save_all=given.get("save_all", False),
                include_workers="all",
            )
        atexit.unregister(self._cleanup)
        atexit.unregister(self.profiler_config_parser.stop_post_hook_close_python_profiling)
        atexit.unregister(_singleton.del_hook)
        _singleton.del_hook()
        error_handling_agent.set_hook(None)
        self.timeline_writer.close()
        self.first_process = True
        add_collections_to_manager(self.collection_manager, configuration, given)
        self._prepare_collections()

    def begin(self, mode: ModeKeys, mode_step: int, step: int) -> bool:
        """Set the current step.

        Args:
            mode: TRAIN or EVAL.
            mode_step: the step among those of its mode, from 0.
            step: the step among all, from 0.

        Returns:
            Whether any collection is saved at it.
        """
        self.mode, self.step = mode, step
        self.mode_steps[mode] = mode_step
        self.mode_steps[ModeKeys.GLOBAL] = step
        self._collections_to_save_for_step = None
        return bool(self._get_collections_to_save_for_step())

    def open(self) -> None:
        """Open this step's files."""
        self.written_tensor_name_for_step.clear()
        self._initialize_writers()

    def is_saved(self, name: str) -> bool:
        """Whether a tensor of that name would be saved at this step."""
        return any(
            name in collection.tensor_names or match_inc(name, collection.include_regex)
            for collection in self._get_collections_to_save_for_step()
        )

    def save(self, name: str, value: Tensor) -> None:
        """Write one tensor with its reductions and summaries, if it is saved at this step."""
        value = value.detach()
        if value.dtype not in _KNOWN_TO_NUMPY:
            value = value.float()
        if value.numel():
            self._save_for_tensor(name, value)

    def save_next(self, stem: str, value: Tensor) -> None:
        """Write `<stem>0`, then `<stem>1` for the next within the step, and so on."""
        position = self.written_tensor_name_for_step[stem]
        self.written_tensor_name_for_step[stem] = position + 1
        self.save(f"{stem}{position}", value)

    def save_parameters(self, network: nn.Module) -> None:
        """Write the weights and biases, named as smdebug names them."""
        for name, parameter in network.named_parameters():
            self.save(f"{type(network).__name__}_{name}", parameter)

    def save_gradients(self, network: nn.Module) -> None:
        """Write the gradients of the parameters that have one."""
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                self.save(f"{self.GRADIENT_PREFIX}{type(network).__name__}_{name}", parameter.grad)

    def finish(self) -> None:
        """Close this step's files; readers see them from now on."""
        self._close_writers()

    def abandon(self) -> None:
        """Close and delete this step's files."""
        for writer in (self.writer, *self.tb_writers.values()):
            if writer is None:
                continue
            if writer._proto_writer is not None:
                writer._proto_writer.abandon()
            if writer.index_writer is not None and writer.index_writer.writer is not None:
                _drop(writer.index_writer.writer)
                writer.index_writer.writer = None
        self.writer = None
        self.tb_writers.clear()

    def _get_worker_name(self) -> str:
        return f"worker_{self._rank}"

    def _get_num_workers(self) -> int:
        return self._workers

    def _initialize_to_last_saved_state(self) -> None:
        """Do nothing: the caller sets the step."""

    def _write_histogram_summary(
        self, tensor_name: str, tensor_value: Tensor, save_collections: Any
    ) -> None:
        if self.tensorboard_dir and tensor_value.dtype != torch.bool:
            finite = torch.isfinite(tensor_value)
            if not finite.all():
                tensor_value = tensor_value[finite]
            super()._write_histogram_summary(tensor_name, tensor_value, save_collections)

    @staticmethod
    def _get_reduction_of_data(
        reduction_name: str,
        tensor_value: Tensor,
        tensor_name: str,
        abs: bool,  # noqa: A002 - smdebug passes it by name
    ) -> Any:
        value = tensor_value if tensor_value.dtype == torch.float64 else tensor_value.float()
        if reduction_name in ("std", "variance") and value.numel() == 1:
            return value.new_tensor(float("nan"))
        return Hook._get_reduction_of_data(reduction_name, value, tensor_name, abs)

    @staticmethod
    def _make_numpy_array(tensor_value: Any) -> Any:
        if isinstance(tensor_value, Tensor):
            return tensor_value.detach().cpu().numpy()
        return Hook._make_numpy_array(tensor_value)
