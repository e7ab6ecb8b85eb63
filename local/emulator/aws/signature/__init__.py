"""Whether a request was signed with a key of this machine, and for which service and region."""
