"""Exact AWS request dicts from the commands' options: pure data, no I/O to a server."""
