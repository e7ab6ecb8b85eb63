"""The training job without the conversion to OpenVINO, which takes longer than a few steps.

`SAGEMAKER_TRAINING_MODULE=unexported:main`, with this folder on PYTHONPATH.
"""

from container import train


def main() -> None:
    train.main(export=False)
