"""Records a training job: its timeline of steps, its machine and its operators."""
