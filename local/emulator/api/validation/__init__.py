"""What SageMaker refuses beyond its model: checks that raise the ServiceError AWS returns."""
