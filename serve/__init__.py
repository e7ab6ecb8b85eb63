"""What serves. Runs in the image."""
