"""What the timeline's events are called: names that SageMaker's and smdebug's analyses know.

Every event of a framework-event file belongs to a Chrome-trace process, whose name smdebug calls
the event's phase. Host events have the same text as process and as name. What ran on a GPU belongs
to the process `gpu_functions-dev:<index>`, smdebug's name for it, under the same names; such an
event is the device's view of the host event of that name and step, not another phase.

`args` holds `step_num` (int; outside of steps that of the last one, 0 before the first), `mode`
(train, eval, or other outside of steps) and `rank`.
"""

import re
from functools import lru_cache

STEPS = {"train": "Step:ModeKeys.TRAIN", "eval": "Step:ModeKeys.EVAL"}
"""A whole step by mode."""

PHASES = {
    "data": "DataLoaderIter::GetNext",
    "copy": "CopyHostToDevice",
    "augment": "Augment",
    "forward": "Forward",
    "backward": "Backward(post-forward)",
    "optimizer": "Optimizer",
    "metrics": "Metrics",
    "debug": "Debug",
    "profiler": "Profiler",
    "checkpoint": "Checkpoint",
    "evaluation": "Evaluation",
    "export": "Export",
    "report": "Report",
}
"""Parts of a step, or of the job outside of steps. A name that is not here stays as it is."""

DEVICE = "gpu_functions-dev:"
"""How the process of a GPU's events begins; the GPU's index follows."""


WITHIN_STEP = (
    "data", "copy", "augment", "forward", "backward", "optimizer", "metrics", "debug", "profiler",
)  # fmt: skip
"""The parts of a step that berth's timeline tells apart, in their order."""
CPU, GPU = "cpu operator", "gpu operator"
OTHER = "other"

_OWN = {name.lower(): phase for phase, name in PHASES.items()} | {phase: phase for phase in PHASES}
_MODE = re.compile(r"modekeys\.(\w+)")
_MODES = {"train": "train", "eval": "eval", "predict": "eval"}
_FOREIGN = (
    # smdebug 1.0.34, pytorch/hook.py; the loader's from profiler_constants.py
    (re.compile(r"^forward-submodule"), "forward layer"),
    (re.compile(r"^backward-submodule"), "backward layer"),
    (re.compile(r"^forward(-node)?$"), "forward"),
    (re.compile(r"^backward(\(post-forward\))?(-node)?$"), "backward"),
    (re.compile(r"^dataloaderiterinitiali[sz]e"), "loader start"),
    (re.compile(r"^dataloaderworker"), "worker"),
    (re.compile(r"^(dataloaderiter|dataiterator)"), "data"),
    (re.compile(r"^cpu_functions"), CPU),
    (re.compile(rf"^{DEVICE}|^gpu_functions"), GPU),
    (re.compile(r"nccl|allreduce|all_reduce|horovod|broadcast"), "communication"),
)


@lru_cache(maxsize=65536)
def normalise(phase: str, name: str) -> tuple[str, str]:
    """What an event is, in berth's words, and its mode where its names tell one.

    Args:
        phase: the name of its process, empty if the file has none.
        name: the event's own.

    Returns:
        The phase: step, one of `PHASES`, `forward layer`, `backward layer`, `worker` (loading
        in a process of its own), `loader start`, `communication`, `CPU`, `GPU` or `other`; and the
        mode: train, eval, or empty.
    """
    for given in (phase, name):
        text = given.strip().lower()
        if text.startswith("step:"):
            mode = _MODE.search(text)
            return "step", _MODES.get(mode[1], "") if mode else ""
        if text == "step" or text in _OWN:
            return _OWN.get(text, text), ""
        for pattern, found in _FOREIGN:
            if pattern.search(text):
                return found, ""
    return OTHER, ""
