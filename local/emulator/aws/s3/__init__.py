"""S3 on this machine: an index in SQLite, a file for each object, and the REST API."""
