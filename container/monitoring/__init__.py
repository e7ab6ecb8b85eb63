"""What watches a training job: the debugger, the profiler, and the callback that feeds both."""
