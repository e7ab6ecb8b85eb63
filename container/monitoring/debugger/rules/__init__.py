"""The debugger's rules, one class each, grouped by what they watch."""
