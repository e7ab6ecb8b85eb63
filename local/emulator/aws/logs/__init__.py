"""CloudWatch Logs: log groups and streams in files, and the API's operations."""
