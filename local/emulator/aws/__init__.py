"""S3, ECR, IAM, STS and CloudWatch by moto, kept on disk."""
