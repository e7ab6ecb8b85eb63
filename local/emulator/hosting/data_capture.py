"""Data capture: an endpoint's requests and responses as JSON Lines in S3, with AWS's keys."""

import base64
import json
import random
import tempfile
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.emulator.ports import Objects
from local.s3_location import Location

FLUSH_SECONDS = 1.0
"""Seconds until a record is written to S3."""
FLUSH_RECORDS = 200
"""Most records per file."""


class DataCapture:
    """Captures the requests and responses of one endpoint.

    Args:
        objects: S3.
        endpoint: the endpoint's name.
        config: its DataCaptureConfig.
        choices: the random generator for sampling.
    """

    def __init__(
        self, objects: Objects, endpoint: str, config: dict[str, Any], choices: random.Random
    ) -> None:
        self._objects, self._endpoint, self._choices = objects, endpoint, choices
        self._percentage = config["InitialSamplingPercentage"]
        self._active = config.get("EnableCapture", True)
        modes = {one["CaptureMode"] for one in config["CaptureOptions"]}
        self._modes = {"Input", "Output"} if "InputAndOutput" in modes else modes
        types = config.get("CaptureContentTypeHeader", {})
        self._csv = set(types.get("CsvContentTypes", []))
        self._json = set(types.get("JsonContentTypes", []))
        destination = Location.parse(config["DestinationS3Uri"])
        self._bucket, self._prefix = destination.bucket, destination.key.strip("/")
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._timer: threading.Timer | None = None

    def wanted(self) -> bool:
        """Decide at random whether to capture the next request."""
        return bool(self._active) and self._choices.random() * 100 < self._percentage

    def record(
        self,
        variant: str,
        request: tuple[bytes, str],
        answer: tuple[bytes, str],
        *,
        inference_id: str | None,
        attributes: str | None,
    ) -> None:
        """Record a request and its response; they are written to S3 within `FLUSH_SECONDS`.

        Args:
            variant: the invoked variant.
            request: the request's body and content type.
            answer: the response's body and content type.
            inference_id: the request's InferenceId.
            attributes: its CustomAttributes.
        """
        data = {}
        if "Input" in self._modes:
            data["endpointInput"] = self._side("INPUT", *request)
        if "Output" in self._modes:
            data["endpointOutput"] = self._side("OUTPUT", *answer)
        metadata: dict[str, Any] = {
            "eventId": str(uuid.uuid4()),
            "inferenceTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if inference_id:
            metadata["inferenceId"] = inference_id
        if attributes:
            metadata["customAttributes"] = [attributes]
        event = {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}
        with self._lock:
            lines = self._waiting.setdefault(variant, [])
            lines.append(event)
            full = len(lines) >= FLUSH_RECORDS
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_SECONDS, self.flush)
                self._timer.daemon = True
                self._timer.start()
        if full:
            self.flush()

    def flush(self) -> None:
        """Write waiting records; drop them on an OSError (no such bucket), as AWS does."""
        with self._writing:
            with self._lock:
                waiting, self._waiting = self._waiting, {}
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            for variant, events in waiting.items():
                self._write(variant, events)

    def _write(self, variant: str, events: list[dict[str, Any]]) -> None:
        now = datetime.now(UTC)
        name = f"{now:%M-%S}-{now.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
        parts = [self._prefix, self._endpoint, variant, f"{now:%Y/%m/%d/%H}", name]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_text("".join(json.dumps(event) + "\n" for event in events))
            try:
                self._objects.put(self._bucket, "/".join(part for part in parts if part), path)
            except OSError:
                return

    def _side(self, mode: str, body: bytes, content_type: str) -> dict[str, str]:
        kind = content_type.partition(";")[0].strip()
        encoding = "CSV" if kind in self._csv else "JSON" if kind in self._json else "BASE64"
        if encoding == "BASE64":
            data = base64.b64encode(body).decode()
        else:
            data = body.decode(errors="replace")
        return {
            "observedContentType": content_type,
            "mode": mode,
            "data": data,
            "encoding": encoding,
        }
