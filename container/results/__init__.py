"""What a job leaves: the evaluation with its charts, the artifact, its OpenVINO graphs."""
