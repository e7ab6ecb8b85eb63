"""The report of a fit job."""
