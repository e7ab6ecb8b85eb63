"""The catalogue of debugger and profiler rules, and requests for them."""
