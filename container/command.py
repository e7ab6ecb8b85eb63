"""The `train` command: SageMaker runs `IMAGE train`, and this calls `container.train` in process.

It replaces the sagemaker-training toolkit's command of the same name, which exits with status 0
when it cannot write `output/failure`, and which fails on configuration that it copies.
`SAGEMAKER_TRAINING_MODULE=module:function` names another function, as there. On any error the
status is not 0, and one line in `output/failure` and in the log has the reason.
"""

import faulthandler
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from container.artifact import DESCRIPTION
from container.environment import (
    Environment,
    base_folder,
    read_hyperparameters,
    write_failure,
)
from container.errors import BerthError, DataError, JobEnded, TrainingError
from container.extras import module_missing
from container.script_mode import refuse_script_variables

DEFAULT_FUNCTION = "container.train:main"
"""Default of `SAGEMAKER_TRAINING_MODULE`."""
FEATURES = "features"
"""The model's only folder after a job with `features_only`."""
WRITTEN = ("output", "output/data", "model", "checkpoints")
"""Folders of the tree that a job writes to."""
IMAGE_TARGET = "BERTH_IMAGE_TARGET"
"""The variable that the image sets to its Dockerfile target, full or serve."""
INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""


def main() -> None:
    """Run the job that SageMaker's tree describes.

    Raises:
        SystemExit: always; status 0 only if training finished and wrote its results.
    """
    base = base_folder()
    if not faulthandler.is_enabled():
        faulthandler.enable()  # prints the stack when a library crashes
    try:
        _refuse_serving_image()
        environment = _prepare(base)
        name = os.environ.get("SAGEMAKER_TRAINING_MODULE") or DEFAULT_FUNCTION
        if name == DEFAULT_FUNCTION:
            read_hyperparameters(environment)  # fails before PyTorch is imported, which takes long
        function = _training_function(name)
        print(f"Imported framework {name}", flush=True)
        function()
        _require_result(environment, name)
        (base / "output" / "success").touch()
    except JobEnded as ended:
        trace = traceback.format_exc() if ended.__cause__ else ""
        sys.exit(_fail(base, str(ended), _status(ended.errno), trace))
    except BerthError as error:
        sys.exit(_fail(base, str(error), 1))
    except KeyboardInterrupt:
        sys.exit(_fail(base, "stopped by SIGINT before training started", INTERRUPTED))
    except SystemExit as ended:
        line = f"training ended the process with status {ended.code!r} before its end"
        sys.exit(_fail(base, line, _status(ended.code)))
    except BaseException as error:
        line = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        sys.exit(_fail(base, line, 1, traceback.format_exc()))
    sys.exit(0)


def _refuse_serving_image() -> None:
    """Raise TrainingError in an image that can only serve."""
    if os.environ.get(IMAGE_TARGET) == "serve":
        raise TrainingError(
            "this image can only serve, as it has no PyTorch; train with berth:latest (make build "
            "without TARGET=serve)"
        )


def _prepare(base: Path) -> Environment:
    """Check that the job's tree is complete and writable; returns its environment.

    Raises:
        DataError: a file or folder of the tree is missing or wrong.
        ScriptError: the request names a training script.
    """
    if not base.is_dir():
        raise DataError(
            f"{base}: found no such folder, expected SageMaker's tree with input/config in it; "
            "SAGEMAKER_BASE_DIR names another"
        )
    for name in WRITTEN:
        _require_writable(base / name)
    for name in ("failure", "success"):
        (base / "output" / name).unlink(missing_ok=True)
    refuse_script_variables(os.environ)
    return Environment.read_whole()


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise DataError(
            f"{folder}: found {error.strerror}, expected a folder that the job can write to"
        ) from None


def _training_function(given: str) -> Callable[[], None]:
    """Import the function in `SAGEMAKER_TRAINING_MODULE`, as `module:function`.

    Raises:
        DataError: it does not exist, or needs an extra that is not installed.
    """
    module, _, name = given.partition(":")
    try:
        function: Callable[[], None] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        missing = module_missing(error) if isinstance(error, ModuleNotFoundError) else None
        if missing:
            raise DataError(missing) from None
        raise DataError(
            f"environment variable SAGEMAKER_TRAINING_MODULE: found {given!r} ({error}), "
            f"expected module:function such as {DEFAULT_FUNCTION}"
        ) from error
    return function


def _require_result(environment: Environment, name: str) -> None:
    if name != DEFAULT_FUNCTION or environment.host_rank != 0:
        return
    only_features = read_hyperparameters(environment).features_only
    path = environment.model_dir / (FEATURES if only_features else DESCRIPTION)
    if not path.exists():
        what = "features" if only_features else "model"
        raise DataError(f"{path}: found no {what} at the end of training, expected it")


def _fail(base: Path, line: str, status: int, trace: str = "") -> int:
    """Write the reason to the log, and to `output/failure` unless it exists; returns `status`."""
    print(f"{trace}{line}", file=sys.stderr, flush=True)
    if not base.is_dir():
        return status
    try:
        write_failure(base, f"{line}\n\n{trace}" if trace else f"{line}\n")
    except OSError as error:
        path = base / "output" / "failure"
        print(f"{path}: cannot be written: {error.strerror}", file=sys.stderr, flush=True)
    return status


def _status(found: object) -> int:
    """An exit status that is not 0."""
    return found if isinstance(found, int) and 0 < found < 256 else 1
