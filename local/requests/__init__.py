"""Options in, the exact request dicts out. Pure: nothing here reads a file or asks a server."""
