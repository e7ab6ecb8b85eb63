"""Tar shards in WebDataset's format: what they hold, read in one pass over their headers."""
