"""Results of jobs: evaluations, rule statuses, profiles, trials and predictions."""
