"""The `train` command as it is installed; `python -m container` is the same."""

from container.extras import named_extra


def main() -> None:
    """Run the job that SageMaker's tree describes; see `container.command`.

    Raises:
        SystemExit: always; an installation without what trains ends in one line that says how to
            get it.
    """
    with named_extra("train", "image"):
        from container.command import main as train
    train()


if __name__ == "__main__":
    main()
