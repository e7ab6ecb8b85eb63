"""Heat maps that show which parts of an image a prediction depends on."""
