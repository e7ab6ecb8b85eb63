"""The inference server, which runs in the image."""
