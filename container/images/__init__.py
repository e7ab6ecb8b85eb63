"""Decodes images of all accepted formats, checking limits before decoding."""
