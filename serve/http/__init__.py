"""HTTP: connections and their worker, the log, invocations and their responses."""
