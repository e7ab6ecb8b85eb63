"""Features once: what a frozen backbone makes of each image, kept for every epoch and every job."""
