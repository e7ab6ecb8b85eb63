"""The profiler: records where a job's time goes, evaluates rules and writes the report."""
