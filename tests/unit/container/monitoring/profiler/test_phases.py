from typing import Any

import pytest

from container.monitoring.profiler.phases import CPU, GPU, OTHER, PHASES, STEPS, normalise


@pytest.mark.parametrize(
    ("process", "name", "phase", "mode"),
    [
        ("Step:ModeKeys.TRAIN", "Step:ModeKeys.TRAIN", "step", "train"),
        ("Step:ModeKeys.EVAL", "Step:ModeKeys.EVAL", "step", "eval"),
        ("Step:ModeKeys.PREDICT", "", "step", "eval"),
        ("Step:ModeKeys.GLOBAL", "", "step", ""),
        ("", "Step:ModeKeys.TRAIN", "step", "train"),
        ("Forward", "ResNet_0", "forward", ""),
        ("Forward-node", "ResNet_0", "forward", ""),
        ("Forward-SubModuleInternal", "Conv2d_0", "forward layer", ""),
        ("Backward(post-forward)", "ResNet_0", "backward", ""),
        ("Backward-SubModuleInternal", "Conv2d_0", "backward layer", ""),
        ("DataLoaderIter", "DataLoaderIter::GetNext", "data", ""),
        ("DataLoaderWorker", "DataLoaderWorker::work", "worker", ""),
        ("DataLoaderIterInitialize", "_SingleProcessDataLoaderIter.__init__", "loader start", ""),
        ("cpu_functions", "aten::forward", CPU, ""),
        ("gpu_functions-dev:1", "sgemm", GPU, ""),
        ("NCCLManager", "ncclAllReduce", "communication", ""),
        ("Something", "else", OTHER, ""),
        ("", "", OTHER, ""),
        ("  FORWARD ", "x", "forward", ""),
    ],
)
def test_names(process: str, name: str, phase: Any, mode: str) -> None:
    assert normalise(process, name) == (phase, mode)


@pytest.mark.parametrize("phase", PHASES)
def test_berths_own_names(phase: Any) -> None:
    assert normalise(PHASES[phase], PHASES[phase]) == (phase, "")
    assert normalise(phase, phase) == (phase, "")


@pytest.mark.parametrize("mode", STEPS)
def test_berths_steps(mode: Any) -> None:
    assert normalise(STEPS[mode], STEPS[mode]) == ("step", mode)
