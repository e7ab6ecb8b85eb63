"""CloudWatch Logs: log groups and streams in files, and the operations that clients send."""
