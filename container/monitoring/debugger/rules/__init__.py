"""The debugger's rules, one class each, grouped by topic."""
