"""What a job left, read: its model's evaluation, rules, profile, trials and predictions."""
