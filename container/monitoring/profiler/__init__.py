"""Where a training job's time goes, rules that judge it, and the report."""
