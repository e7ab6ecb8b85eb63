"""What a fit job found, as files of its output."""
