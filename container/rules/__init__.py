"""The debugger's and the profiler's rules: names, parameters, defaults, and requests for them."""
