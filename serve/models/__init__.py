"""A multi-model endpoint: models come and go while the server runs."""
