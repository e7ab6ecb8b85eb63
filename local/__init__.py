"""The `berth` command line and the local SageMaker: what runs on the user's machine."""
