"""The training code, which runs in the image."""
