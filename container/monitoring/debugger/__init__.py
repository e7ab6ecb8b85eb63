"""Tensors kept while a network trains, and rules that watch them."""
