"""Linear probes on features, and learning curves."""
