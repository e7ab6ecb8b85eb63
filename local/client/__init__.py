"""What the commands share: the target, and jobs, logs, files and images on it."""
