"""Clients of S3, SageMaker, CloudWatch Logs and ECR that the commands share."""
