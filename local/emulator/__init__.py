"""The local SageMaker: the same API as on AWS, which runs the image on this machine."""
