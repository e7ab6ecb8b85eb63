"""The best classifier within a time limit: probes first, then fine-tuning in the remaining time."""
