"""The errors shown to users: one line with what was found and what was expected."""


class BerthError(Exception):
    """An error that the user can fix; its message is a single line."""


class DataError(BerthError):
    """The channels or the image folder do not hold what training needs."""


class BadImage(BerthError):
    """One file or request body is not an image that can be decoded."""


class ArtifactError(BerthError):
    """A model directory does not hold a readable artifact."""


class WeightsError(BerthError):
    """Pretrained weights could not be found, or do not fit the architecture."""


class CheckpointError(BerthError):
    """A checkpoint is corrupt or belongs to another run."""


class TrainingError(BerthError):
    """Training cannot go on: a non-finite loss, a full disk, an impossible configuration."""


class FeatureError(BerthError):
    """Features of images cannot be computed, or those given are of other images or weights."""


class ScriptError(BerthError):
    """The request names a training script, which this image does not run."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class JobEnded(Exception):
    """A job failed or was stopped; `errno` is the process's exit status."""

    def __init__(self, line: str, errno: int = 1) -> None:
        super().__init__(line)
        self.errno = errno
