"""One picture from bytes to pixels: every format, bounded before it is decoded."""
