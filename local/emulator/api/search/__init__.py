"""Search: resources by their properties, tags, hyperparameters and metrics."""
