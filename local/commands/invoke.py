"""`berth invoke`: send images to an endpoint and print the predictions.

    berth invoke flowers rose.jpg tulip.jpg
    berth invoke flowers photos/test --json > predictions.jsonl
    berth invoke gardens rose.jpg --target-model roses.tar.gz

For a folder of class folders it also prints the accuracy, with the folders' names as labels.
"""

import base64
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from container.files.progress import ProgressBar
from container.files.regular import open_regular, read_bounded, size_of
from local.client import plan
from local.client.console import table_console
from local.client.images import ImageFile, find_images
from local.client.resize import resize_to_fit
from local.commands.options.shared import CommonOptions, with_common
from local.errors import UserError, code, one_line
from local.results.predictions import (
    ImagePrediction,
    heat_map_files,
    print_predictions,
    read_heat_map,
    read_predictions,
)

REAL_TIME_LIMIT = 25 * 1024**2
"""Largest payload of an instance-based endpoint, in bytes (developer guide, quotas)."""
SERVERLESS_LIMIT = 4 * 1024**2
"""Largest payload of a serverless endpoint, in bytes (developer guide, quotas)."""
MAX_BATCH = 256
"""Most instances the container accepts in one request."""
PARALLEL = 8
MESSAGE = 500
"""Characters of a container's error that are printed; it comes from any image."""


@dataclass(frozen=True)
class EndpointClient:
    """Sends images to one endpoint; thread-safe.

    Attributes:
        runtime: a boto3 `sagemaker-runtime` client.
        endpoint: the endpoint's name.
        limit: largest request body, in bytes.
        top_k: classes per prediction; None for the container's default.
        shrink: resize images that exceed the limit instead of rejecting them.
        variant: the production variant; None lets the endpoint choose.
        target_model: the model archive, for a multi-model endpoint.
        heat_maps: the file for each image's heat map; None requests no heat maps.
    """

    runtime: Any
    endpoint: str
    limit: int = REAL_TIME_LIMIT
    top_k: int | None = None
    shrink: bool = False
    variant: str | None = None
    target_model: str | None = None
    heat_maps: Mapping[ImageFile, Path] | None = None

    def predict(self, images: Sequence[ImageFile]) -> list[ImagePrediction]:
        """The predictions for some images, sent in one request if they fit."""
        if len(images) == 1:
            return [self._predict_one(images[0])]
        # Base64 encodes three bytes as four; 64 bytes are for the JSON around an image.
        room = self.limit // 4 * 3 // len(images) - 64
        together = [image for image in images if _size(image) <= room]
        predictions = self._predict_together(together)
        return [predictions.get(image) or self._predict_one(image) for image in images]

    def _predict_together(self, images: Sequence[ImageFile]) -> dict[ImageFile, ImagePrediction]:
        """The predictions of one request; empty if it failed, as one bad image fails them all."""
        if not images:
            return {}
        try:
            instances = [
                {"b64": base64.b64encode(self._load(image, self.limit)[0]).decode()}
                for image in images
            ]
            body = json.dumps({"instances": instances}).encode()
            rows = read_predictions(self._send(body, "application/json"), len(images))
        except Exception as error:
            error_line(error)
            return {}
        return {image: ImagePrediction(image, row) for image, row in zip(images, rows, strict=True)}

    def _predict_one(self, image: ImageFile) -> ImagePrediction:
        try:
            data, resized = self._load(image, self.limit)
            kind = image.content_type if resized is None else "image/jpeg"
            response = self._send(data, kind)
            (row,) = read_predictions(response, 1)
            heat_map = self._keep_heat_map(image, response)
        except Exception as error:
            return ImagePrediction(image, error=error_line(error))
        return ImagePrediction(image, row, resized=resized, heat_map=heat_map)

    def _keep_heat_map(self, image: ImageFile, response: bytes) -> Path | None:
        if self.heat_maps is None:
            return None
        path = self.heat_maps[image]
        png = read_heat_map(response)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
        return path

    def _load(self, image: ImageFile, limit: int) -> tuple[bytes, int | None]:
        try:
            with open_regular(image.path) as file:
                size = size_of(file)
                data = read_bounded(file) if size <= limit or self.shrink else b""
        except OSError as error:
            raise UserError(f"{image.name}: cannot be read: {error.strerror}") from None
        if size <= limit:
            return data, None
        if not self.shrink:
            raise UserError(
                f"{image.name}: found {size:,} bytes, expected at most {limit:,} in a request; "
                "resize it, or use --shrink"
            )
        smaller = resize_to_fit(data, limit, image.name)
        return smaller, len(smaller)

    def request(self, body: bytes | str, kind: str) -> dict[str, Any]:
        """The InvokeEndpoint request for a body of content type `kind`."""
        request: dict[str, Any] = {
            "EndpointName": self.endpoint,
            "ContentType": kind,
            "Accept": "application/json",
        }
        attributes = [f"top_k={self.top_k}"] if self.top_k is not None else []
        attributes += ["explain=true"] if self.heat_maps is not None else []
        if attributes:
            request["CustomAttributes"] = ",".join(attributes)
        if self.variant is not None:
            request["TargetVariant"] = self.variant
        if self.target_model is not None:
            request["TargetModel"] = self.target_model
        return request | {"Body": body}

    def _send(self, body: bytes, kind: str) -> bytes:
        response = self.runtime.invoke_endpoint(**self.request(body, kind))
        return bytes(response["Body"].read())


def error_line(error: BaseException) -> str:
    """One line on why an invocation failed: the container's error message if there is one.

    Raises:
        BaseException: `error` itself, if it is a bug in this program.
    """
    if code(error) == "ModelError":
        response: dict[str, Any] = getattr(error, "response", {})
        message = str(response.get("OriginalMessage", ""))
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            message = str(json.loads(message)["error"])
        message = " ".join(message.split())[:MESSAGE]
        return f"HTTP {response.get('OriginalStatusCode', '?')}: {message or 'no message'}"
    line = one_line(error)
    if line is None:
        raise error
    return line


def predict_all(
    client: EndpointClient, images: Sequence[ImageFile], *, batch: int = 1, parallel: int = PARALLEL
) -> list[ImagePrediction]:
    """The predictions for all images, in the same order; each request has `batch` images."""
    groups = list(_groups(images, batch))
    predictions: list[list[ImagePrediction]] = [[] for _ in groups]
    threads = ThreadPoolExecutor(parallel)
    try:
        pending = {
            threads.submit(client.predict, group): position for position, group in enumerate(groups)
        }
        with ProgressBar(f"invoking {client.endpoint}", len(images), log=sys.stderr) as progress:
            for done in as_completed(pending):
                predictions[pending[done]] = done.result()
                progress.advance(len(groups[pending[done]]))
    finally:
        threads.shutdown(cancel_futures=True)
    return [prediction for group in predictions for prediction in group]


@with_common
def invoke(
    common: CommonOptions,
    endpoint: Annotated[str, typer.Argument(help="the endpoint's name")],
    images: Annotated[list[Path], typer.Argument(help="image files, or folders of them")],
    top_k: Annotated[
        int | None, typer.Option(min=1, help="classes per prediction (default: 5)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines instead of a table")] = False,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="resize images that are too large for a request")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, max=MAX_BATCH, help="images per request, sent as JSON")
    ] = 1,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="parallel requests")] = PARALLEL,
    variant: Annotated[str | None, typer.Option(help="the production variant")] = None,
    target_model: Annotated[
        str | None,
        typer.Option(metavar="NAME.tar.gz", help="model archive, for a multi-model endpoint"),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", file_okay=False, help="write each image's heat map there, as PNG"
        ),
    ] = None,
) -> None:
    """Send images to an endpoint; exit with status 1 if an image got no prediction."""
    if explain is not None and batch > 1:
        raise UserError(f"--batch {batch}: --explain needs one image per request; omit it")
    files = find_images(images)
    heat_maps = None if explain is None else heat_map_files(files, explain)
    target = common.connect(needs_role=False)
    if target.plan:
        first = files[0]
        planned = EndpointClient(
            None,
            endpoint,
            top_k=top_k,
            variant=variant,
            target_model=target_model,
            heat_maps=heat_maps,
        )
        kind = first.content_type if batch == 1 else "application/json"
        request = planned.request(f"<the bytes of {first.name}>", kind)
        plan.show(target, [("InvokeEndpoint", request)])
        Console().print(f"such requests for {len(files):,} images", highlight=False)
        return
    client = EndpointClient(
        runtime=target.client("sagemaker-runtime", connections=parallel),
        endpoint=endpoint,
        limit=payload_limit(target.client("sagemaker"), endpoint),
        top_k=top_k,
        shrink=shrink,
        variant=variant,
        target_model=target_model,
        heat_maps=heat_maps,
    )
    predictions = predict_all(client, files, batch=batch, parallel=parallel)
    print_predictions(predictions, as_json=as_json, out=table_console(), notes=Console(stderr=True))
    if any(each.error is not None for each in predictions):
        raise typer.Exit(1)


def payload_limit(sagemaker: Any, endpoint: str) -> int:
    """The endpoint's largest payload, in bytes.

    Raises:
        UserError: there is no such endpoint, it is not in service, or it is asynchronous.
    """
    try:
        described = sagemaker.describe_endpoint(EndpointName=endpoint)
    except Exception as error:
        if code(error) == "ValidationException" and "Could not find" in str(error):
            raise UserError(
                f"endpoint {endpoint}: not found; berth jobs lists endpoints, berth deploy "
                "creates one"
            ) from None
        raise
    status = described["EndpointStatus"]
    if status in ("Creating", "Deleting", "Failed"):
        raise UserError(f"endpoint {endpoint}: is {status}, expected InService")
    if described.get("AsyncInferenceConfig"):
        raise UserError(
            f"endpoint {endpoint}: it is asynchronous, which reads and writes objects in S3; "
            "call InvokeEndpointAsync"
        )
    variants = described.get("ProductionVariants") or []
    serverless = any(variant.get("CurrentServerlessConfig") for variant in variants)
    return SERVERLESS_LIMIT if serverless else REAL_TIME_LIMIT


def _size(image: ImageFile) -> int:
    """Bytes of the file; 0 if it cannot be read: sending it then fails with the reason."""
    try:
        return image.path.stat().st_size
    except OSError:
        return 0


def _groups(images: Sequence[ImageFile], size: int) -> Iterator[Sequence[ImageFile]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]
