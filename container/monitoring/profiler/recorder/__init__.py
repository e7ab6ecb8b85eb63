"""What records a job as it trains: its steps on a timeline, its machine and its operators."""
