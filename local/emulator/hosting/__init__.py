"""Endpoints and what asks them."""
