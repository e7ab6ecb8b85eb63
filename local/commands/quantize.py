"""`berth quantize`: quantize a trained model to int8.

berth quantize berth-20260102-030405 photos/test
berth quantize model.tar.gz photos/test --tolerance 1 --output fast.tar.gz
"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from local.client.model_source import find_model
from local.commands.data import run_module
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError
from local.results.downloads import MODEL, download

NEEDED = ("torch", "nncf", "openvino", "simplejpeg")
"""Packages of the extra `image` that it needs."""


@with_common
def quantize(
    common: CommonOptions,
    artifact: Annotated[
        str, typer.Argument(help="a model.tar.gz or its S3 URI, a model folder, or a training job")
    ],
    photos: Annotated[
        Path, typer.Argument(help="class folders of images that the model was not trained on")
    ],
    tolerance: Annotated[
        float, typer.Option(min=0, max=100, help="percentage points of accuracy it may lose")
    ] = 0.5,
    output: Annotated[Path, typer.Option(help="the archive to write")] = Path("model-int8.tar.gz"),
) -> None:
    """Quantize a model to int8; nothing is written if it loses more accuracy than --tolerance."""
    if common.plan:
        raise UserError("--plan: this command sends SageMaker no request to create anything")
    if Path(artifact).exists():
        raise typer.Exit(_run(Path(artifact), photos, output, tolerance))
    target = common.connect(needs_role=False)
    uri = artifact
    if not artifact.startswith("s3://"):
        uri = find_model(target, job=artifact, model_data=None, image_uri=None).model_data
    with tempfile.TemporaryDirectory(prefix="berth-") as folder:
        model = Path(folder) / MODEL
        if not download(target, uri, model):
            raise UserError(f"{uri}: no such object, expected a model.tar.gz")
        raise typer.Exit(_run(model, photos, output, tolerance))


def _run(model: Path, photos: Path, output: Path, tolerance: float) -> int:
    options = ["--output", str(output), "--tolerance", f"{tolerance:g}"]
    return run_module("container.quantize", [str(model), str(photos), *options], NEEDED)
