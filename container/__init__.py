"""What trains. Runs in the image."""
