"""Self-contained HTML pages, which load no other files."""
