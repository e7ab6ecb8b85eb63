"""Heat maps of predictions: where in an image the model finds a class."""
