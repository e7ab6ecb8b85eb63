"""Linear probes on features: fitted, compared, and asked what more images would bring."""
