"""What you run, on your machine."""
