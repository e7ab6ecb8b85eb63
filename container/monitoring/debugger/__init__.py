"""Saves tensors during training and evaluates rules on them."""
