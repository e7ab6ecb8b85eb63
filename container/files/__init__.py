"""Files and folders as people have them: JSON, names, media types, splits and classes."""
