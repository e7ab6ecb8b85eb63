"""A training module without the conversion to OpenVINO, which takes longer than a few steps.

Used with `SAGEMAKER_TRAINING_MODULE=unexported:main` and this folder on PYTHONPATH.
"""

from container import train


def main() -> None:
    train.main(export=False)
