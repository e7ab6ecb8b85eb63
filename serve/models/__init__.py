"""Multi-model endpoints: models are loaded and unloaded while the server runs."""
