"""What to change about a job, every piece of advice with the figure it follows from."""
