"""Features of a frozen backbone, computed once and reused in every epoch and job."""
