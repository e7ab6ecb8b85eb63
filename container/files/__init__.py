"""Files and folders: JSON, names, media types, splits and classes."""
