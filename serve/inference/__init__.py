"""What predicts: an engine for each device, the queue in front of it, what it computes in."""
