"""The profiler's twelve rules, by what they watch.

`gpu` watches GPUs alone, `bottlenecks` what GPUs wait for, `batch` and `loader` a hyperparameter
each, `steps` the durations of steps, and `overall` gathers the report's tables and never fires.
`evaluation` runs them over a recording, `samples` is the view of a recording they share,
`breakdown` where the time of its steps goes; `findings` and `outcome` are what each has to say.

A rule sees the recording as SageMaker's would have while the job ran: every `scan_interval_us` it
looks at everything recorded so far. So `triggered` counts the looks at which its condition held,
and `violations` what it found: points, GPUs, steps.
"""
