"""The HTML pages: one file each, nothing loaded from anywhere."""
