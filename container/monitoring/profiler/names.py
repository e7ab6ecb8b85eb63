"""What the timeline's events are called: names that SageMaker's and smdebug's analyses know.

Every event of a framework-event file belongs to a Chrome-trace process, whose name smdebug calls
the event's phase. Host events have the same text as process and as name. What ran on a GPU belongs
to the process `gpu_functions-dev:<index>`, smdebug's name for it, under the same names; such an
event is the device's view of the host event of that name and step, not another phase.

`args` holds `step_num` (int; outside of steps that of the last one, 0 before the first), `mode`
(train, eval, or other outside of steps) and `rank`.
"""

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
