"""Decoding of images of every accepted format, within bounds checked before decoding."""
