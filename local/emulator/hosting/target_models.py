"""The models of a multi-model container, fetched and loaded on demand.

The first invocation of a model fetches and loads it. When the container has no memory for another
one, the least recently used models are unloaded and their files removed, as on AWS. A replaced
archive takes effect when its model is loaded again.
"""

import hashlib
import json
import shutil
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path

import urllib3

from local.emulator.hosting.model_data import BadModelData, fetch
from local.emulator.ports import Objects
from local.s3_location import Location

LOAD_SECONDS = 360
"""Timeout in seconds to load or unload a model: AWS's limit (invoke-multi-model-endpoint)."""
LIST_SECONDS = 30
NO_MEMORY = 507


class ModelMissing(Exception):
    """There is no archive with this name below the prefix, or it is invalid."""


class ModelNotReady(Exception):
    """The model is still being fetched or loaded."""


class ModelRefused(Exception):
    """The container did not load a model.

    Attributes:
        status: its HTTP status; 0 if it did not respond.
        body: its response.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.body = status, body


class TargetModels:
    """The models loaded in a container; thread-safe.

    Args:
        objects: the local S3.
        prefix: `s3://…` prefix of the archives.
        folder: the local folder of the container's `/opt/ml/models`.
        limit_gb: most GB of an unpacked model.
    """

    def __init__(self, objects: Objects, prefix: str, folder: Path, limit_gb: int) -> None:
        self._objects, self._folder, self._limit_gb = objects, folder, limit_gb
        self._prefix = prefix if prefix.endswith("/") else f"{prefix}/"
        self._lock = threading.Lock()
        self._address, self._base = ("127.0.0.1", 0), ""
        # Least recently used first.
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._pending: dict[str, Future[None]] = {}
        self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="models")

    def attach(self, address: tuple[str, int], base: str) -> None:
        """Set the address and the `/opt/ml` of a newly started container, which has no models."""
        with self._lock:
            self._address, self._base = address, base
            self._loaded.clear()

    def check(self) -> str:
        """Check that the container serves GET /models; return what is wrong, or ""."""
        status, _ = self._ask("GET", "/models", LIST_SECONDS)
        return "" if status == 200 else f"GET /models answered {status or 'nothing'}"

    def path(self, target: str, timeout: float) -> str:
        """The path that invokes a model, which is loaded first if necessary.

        Raises:
            ModelMissing: it cannot be fetched.
            ModelNotReady: it is not loaded within `timeout` seconds; loading continues.
            ModelRefused: the container did not load it.
        """
        with self._lock:
            if target in self._loaded:
                self._loaded.move_to_end(target)
                return f"/models/{_name(target)}/invoke"
            pending = self._pending.get(target)
            if pending is None:
                if self._closed:
                    raise ModelRefused(0, b"")
                pending = self._pending[target] = self._worker.submit(self._load, target)
        try:
            pending.result(timeout)
        except TimeoutError:
            raise ModelNotReady(target) from None
        except CancelledError:  # the container is being stopped
            raise ModelRefused(0, b"") from None
        return f"/models/{_name(target)}/invoke"

    def forget(self, target: str) -> None:
        """Record that the container no longer has a model loaded."""
        with self._lock:
            self._loaded.pop(target, None)

    def make_room(self, keep: str) -> bool:
        """Unload the least recently used model except `keep`; False if there is no other."""
        with self._lock:
            if self._closed:
                return False
            unloaded = self._worker.submit(self._unload_one, keep)
        try:
            return unloaded.result()
        except CancelledError:
            return False

    def close(self) -> None:
        """Load no more models."""
        with self._lock:
            self._closed = True
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _load(self, target: str) -> None:
        place = self._folder / _name(target)
        try:
            self._fetch(target, place)
            self._send(target)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            with self._lock:
                del self._pending[target]
            raise
        with self._lock:
            del self._pending[target]
            self._loaded[target] = None

    def _fetch(self, target: str, place: Path) -> None:
        uri = f"{self._prefix}{target}"
        archive = Location.parse(uri)
        bucket, key = archive.bucket, archive.key
        if not any(found.key == key for found in self._objects.keys(bucket, key)):
            raise ModelMissing(
                f"Failed to download model data (bucket: {bucket}, key: {key}). Please ensure that "
                "there is an object located at the URL and that the role passed to CreateModel "
                "has permissions to download the model."
            )
        shutil.rmtree(place, ignore_errors=True)
        source = {"uri": uri, "type": "archive"}
        try:
            fetch(self._objects, source, place / "model", limit_gb=self._limit_gb)
        except (BadModelData, OSError) as error:
            raise ModelMissing(f"Failed to get the model data: {error}") from None

    def _send(self, target: str) -> None:
        """Load a model into the container; unload others while it is out of memory."""
        name = _name(target)
        given = {"model_name": name, "url": f"{self._base}/models/{name}/model"}
        while True:
            status, body = self._ask("POST", "/models", LOAD_SECONDS, target, given)
            if status in (200, 409):
                return
            if status != NO_MEMORY or not self._unload_one(target):
                raise ModelRefused(status, body)

    def _unload_one(self, keep: str) -> bool:
        with self._lock:
            target = next((each for each in self._loaded if each != keep), None)
            if target is None:
                return False
            del self._loaded[target]
        self._ask("DELETE", f"/models/{_name(target)}", LOAD_SECONDS, target)
        shutil.rmtree(self._folder / _name(target), ignore_errors=True)
        return True

    def _ask(
        self,
        method: str,
        path: str,
        timeout: float,
        target: str = "",
        given: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send a request to the container; return status and body, or 0 if it did not respond."""
        host, port = self._address
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if target:
            headers["X-Amzn-SageMaker-Target-Model"] = target
        with urllib3.HTTPConnectionPool(host, port, retries=False) as pool:
            try:
                answer = pool.request(
                    method,
                    path,
                    body=json.dumps(given) if given else None,
                    headers=headers,
                    timeout=timeout,
                )
            except urllib3.exceptions.HTTPError:
                return 0, b""
            return answer.status, answer.data


def _name(target: str) -> str:
    """The model's name in the container, which is also a valid folder name."""
    return hashlib.sha256(target.encode()).hexdigest()[:32]
