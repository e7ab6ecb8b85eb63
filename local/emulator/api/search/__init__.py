"""Search for resources by properties, tags, hyperparameters and metrics."""
