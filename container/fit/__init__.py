"""The best classifier for the minutes there are: probes first, fine-tuning with what is left."""
