"""Templates, style and charts of all HTML pages; each page is a single self-contained file."""
