"""The HTTP server: connections, worker, access log, invocations and responses."""
