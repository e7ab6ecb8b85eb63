"""What all HTML pages share: one look, one file a page, nothing loaded from anywhere."""
