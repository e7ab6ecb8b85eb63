"""Options to the exact request dicts: pure data, without a server."""
