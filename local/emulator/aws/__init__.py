"""The AWS services besides SageMaker: S3, ECR, IAM, STS and CloudWatch, kept on disk."""
