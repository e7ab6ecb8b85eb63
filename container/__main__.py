"""The `train` command, also `python -m container`."""

from container.extras import named_extra


def main() -> None:
    """Run the job that SageMaker's tree describes; see `container.command`.

    Raises:
        SystemExit: always; if training is not installed, with a message on how to install it.
    """
    with named_extra("train", "image"):
        from container.command import main as train
    train()


if __name__ == "__main__":
    main()
