"""The `berth` commands, one module each."""
