import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from smdebug.core.tfevent.proto.event_pb2 import Event
from smdebug.core.tfrecord.record_reader import RecordReader

from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.smdebug_fixes import mark_end, open_trial
from tests.unit.container.monitoring.debugger.training import (
    random_data,
    settings_for,
    tiny_network,
    train_tiny,
)

QUIET = """
import gc, os, sys, threading, torch, warnings, weakref
warnings.simplefilter("error")
before = dict(os.environ)
from container.monitoring.debugger.hook import TensorHook
assert dict(os.environ) == before
assert all(hasattr(finder, "find_spec") for finder in sys.meta_path)
from container.monitoring.debugger.settings import HookSettings
from pathlib import Path
settings = HookSettings.read(Path(sys.argv[1]), save_interval=1, collections=("weights",))
network, threads = torch.nn.Linear(2, 2), threading.active_count()
gone = weakref.ref(network)
hook = TensorHook(settings, network)
inner = weakref.ref(hook._hook)
assert not hook._hook.profiler_config_parser.profiling_enabled
assert dict(os.environ) == before
for _ in range(3):
    hook.step("train")
    hook.record("losses", network(torch.ones(2, 2)).sum())
assert threading.active_count() == threads
assert sys.getprofile() is None
hook.close()
del hook, network
gc.collect()
assert gone() is None and inner() is None
"""


def test_importing_smdebug_prints_nothing_and_changes_no_files(tmp_path: Path) -> None:
    profiler = tmp_path / "profilerconfig.json"
    metrics = {"PythonProfilingConfig": '{"StartStep": 0, "NumSteps": 9}'}
    profiler.write_text(
        json.dumps(
            {
                "ProfilingIntervalInMilliseconds": 500,
                "ProfilingParameters": {
                    "ProfilerEnabled": True,
                    "LocalPath": str(tmp_path / "Profiler"),
                    **metrics,
                },
            }
        )
    )
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "last").write_text("weights")
    where = tmp_path / "checkpointconfig.json"
    where.write_text(json.dumps({"LocalPath": str(checkpoints)}))
    variables = {
        "SMPROFILER_CONFIG_PATH": str(profiler),
        "CHECKPOINT_CONFIG_FILE_PATH": str(where),
        "TRAINING_JOB_NAME": "job",
    }
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in checkpoints.iterdir()) == ["last"]
    assert not (tmp_path / "profiler").exists()
    assert not (tmp_path / "Profiler").exists()


def events(folder: Path) -> list[Any]:
    """Read TensorBoard's events in a folder, checking every checksum."""
    found = []
    for path in sorted(folder.glob("*.tfevents")):
        reader = RecordReader(str(path))
        while reader.has_data():
            event = Event()
            event.ParseFromString(reader.read_record(check="full"))
            found.append(event)
        reader._reader._accessor.close()
    return found


def test_summaries_are_in_tensorboards_format(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tensorboard=True, save_interval=2)
    network = tiny_network()
    network.spare_weight = torch.nn.Parameter(torch.tensor([1.0, float("inf"), 3.0, -2.0]))
    trial = train_tiny(network, random_data(), 3, settings, validation=random_data(16, seed=1))
    assert settings.tensorboard is not None
    train = events(settings.tensorboard / "TRAIN")
    scalars = {
        event.step: event.summary.value[0].simple_value
        for event in train
        if event.summary.value[0].tag == "CrossEntropyLoss_output_0"
    }
    losses = trial.tensor("CrossEntropyLoss_output_0")
    assert scalars.keys() == {0, 2}
    np.testing.assert_array_equal(scalars[0], losses.value(0))
    histograms = {e.summary.value[0].tag: e.summary.value[0].histo for e in train if e.step == 0}
    histogram = histograms["weights/Sequential_spare_weight"]
    assert histogram.num == sum(histogram.bucket) == 3
    assert (histogram.min, histogram.max, histogram.sum) == (-2, 3, 2)
    assert len(histogram.bucket) == len(histogram.bucket_limit)
    assert "gradients/gradient/Sequential_0.weight" in histograms
    assert {event.step for event in events(settings.tensorboard / "EVAL")} == {3}


def test_the_end_marker_may_be_written_twice(tmp_path: Path) -> None:
    for _ in range(2):
        mark_end(tmp_path / "tensors")
    assert (tmp_path / "tensors" / "training_job_end.ts").read_bytes() == b""


def test_a_claim_left_by_a_killed_process_is_ignored(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    settings.path.mkdir(parents=True)
    (settings.path / "claim.smd").touch()
    mark_end(settings.path)
    assert train_tiny(tiny_network(), random_data(), 1, settings).steps() == [0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.int64])
def test_types_unknown_to_numpy_are_widened(tmp_path: Path, dtype: torch.dtype) -> None:
    settings = settings_for(tmp_path, collections=("inputs",), tensorboard=True)
    hook = TensorHook(settings, torch.nn.Identity())
    values = torch.tensor([0.0, 1.0, 2.0]).to(dtype)
    hook.step("train")
    hook.record("inputs", values)
    hook.record("inputs", values[:0])
    hook.close()
    saved = open_trial(settings.path).tensor("input_images").value(0)
    np.testing.assert_array_equal(saved, values.float())
