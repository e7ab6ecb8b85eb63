"""Serves one model: loads it in the background, then runs its engine and queue.

`start` returns at once; `status()` reports progress:

    predictor = Predictor(model_dir, cpus=2, gpu=False)
    predictor.start()
    rows = predictor.predict(images.pixels, deadline=monotonic() + 55)
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from time import monotonic

from container.artifact import Artifact
from container.errors import BerthError
from serve.errors import BadRequest, NotReady, Overloaded, TimedOut
from serve.explanations.explainer import Explainer
from serve.explanations.heat_map import HeatMap
from serve.inference.batcher import Batcher
from serve.inference.engine import Engine, check, load_engine
from serve.inference.health import Health, State
from serve.metrics import ModelDescription
from serve.payloads.images import Pixels, Probabilities
from serve.records import InvocationRecord

LOG = logging.getLogger("gunicorn.error")

CAPACITY = 512
"""Images that may wait for the engine: two requests of the largest size."""

AHEAD = 64
"""Images of one request that may be decoded before its first is predicted."""

DECODE_WAIT = 10.0
"""Seconds a request waits to decode its next image. Ordinary images take milliseconds; behind
images that take seconds, requests would only pile up."""

SHUTDOWN_WAIT = 10.0
"""Seconds to wait for a load or a forward pass at shutdown: if the interpreter exits while native
code runs, the process aborts."""

STUCK = 60.0
"""Seconds after which a forward pass counts as hung: an invocation may not take longer."""


class Predictor:
    """Loads an artifact in its own thread, which then runs the forward passes.

    Args:
        model_dir: the artifact.
        cpus: number of cores for the forward pass, and of images decoded at a time.
        gpu: whether this process has a GPU.
        precision: precision of the forward pass, see `load_engine`.
        load: loads the engine.
        decoders: the decoding slots, if several predictors share the cores.
        room: memory for explanations, see `Explainer`.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        cpus: int,
        gpu: bool,
        precision: str = "auto",
        load: Callable[..., Engine] = load_engine,
        decoders: threading.BoundedSemaphore | None = None,
        room: Callable[[float], AbstractContextManager[object]] = lambda _: nullcontext(),
    ) -> None:
        self._model_dir = model_dir
        self._cpus = cpus
        self._gpu = gpu
        self._precision = precision
        self._load = load
        self._room = room
        self._health = Health()
        # More decoders than cores would not be faster, and would delay /ping.
        self._decoders = decoders or threading.BoundedSemaphore(cpus)
        self._artifact: Artifact | None = None
        self._batcher: Batcher | None = None
        self._explainer: Explainer | None = None
        self._engine_name = ""
        self._stopping = threading.Event()
        self._loaded: Future[None] = Future()
        # A daemon, so that a load that hangs does not block the process from exiting.
        self._thread = threading.Thread(target=self._load_and_run, name="engine", daemon=True)

    def start(self) -> None:
        """Start loading in the background."""
        self._thread.start()

    def failure(self) -> BaseException | None:
        """Wait for the load to end; returns the exception it raised, or None."""
        return self._loaded.exception()

    def stop(self) -> None:
        """Stop the thread after the current forward pass; waiting requests fail."""
        self._stopping.set()
        if self._batcher is not None:
            self._batcher.close("the server is stopping")
        if self._thread.is_alive():
            self._thread.join(SHUTDOWN_WAIT)
        # Break the reference cycle, which would keep the engine until garbage collection.
        self._explainer = None

    def status(self) -> dict[str, str]:
        """The state and its detail, see `Health`; also FAILED while the engine hangs."""
        if self._batcher and (seconds := self._batcher.busy_for()) > STUCK:
            detail = f"the engine has been busy with one forward pass for {seconds:.0f} s"
            return {"status": State.FAILED, "detail": detail}
        return self._health.status()

    @property
    def waiting(self) -> int:
        """Number of images waiting for the engine."""
        return self._batcher.waiting if self._batcher else 0

    def description(self, name: str = "") -> ModelDescription | None:
        """The description of the model for /metrics; None while it is not served."""
        artifact, ready = self._artifact, self._health.ready
        if artifact is None or not ready:
            return None
        return ModelDescription(name, artifact.arch, self._engine_name, len(artifact.classes))

    @property
    def artifact(self) -> Artifact:
        """The model being served. Raises NotReady while it is not served."""
        if self._artifact is None or not self._health.ready:
            status = self.status()
            detail = f": {status['detail']}" if "detail" in status else ""
            raise NotReady(f"the model is {status['status']}{detail}")
        return self._artifact

    def predict(
        self,
        pixels: Iterator[Pixels],
        deadline: float,
        record: InvocationRecord | None = None,
    ) -> list[Probabilities]:
        """All results of `stream` as a list."""
        return list(self.stream(pixels, deadline, record))

    def stream(
        self,
        pixels: Iterator[Pixels],
        deadline: float,
        record: InvocationRecord | None = None,
        *,
        in_order: bool = False,
    ) -> Iterator[Probabilities]:
        """Yield (classes,) probabilities of each image, decoding ahead while earlier ones wait.

        `deadline` is on the monotonic clock; the time of each stage is added to `record`. An image
        that cannot be decoded raises at once, or with `in_order` after all images before it.

        Raises:
            NotReady: the model is not served.
            Overloaded, EngineFailed: from `Batcher.submit`.
            TimedOut: the deadline passed.
            BadRequest: an image cannot be decoded.
        """
        batcher = self._batcher
        if batcher is None:
            raise NotReady("the model is not loaded")
        record = record or InvocationRecord()
        answers: deque[Future[Probabilities]] = deque()
        more, refused = True, None
        try:
            while more or answers:
                while more and len(answers) < AHEAD:
                    try:
                        image = self._decode_next(pixels, deadline, record)
                    except BadRequest as error:
                        if not in_order:
                            raise
                        image, refused = None, error
                    more = image is not None
                    if image is not None:
                        answers.append(batcher.submit(image, record))
                if answers:
                    yield answers[0].result(max(0.0, deadline - monotonic()))
                    answers.popleft()
            if refused is not None:
                raise refused
        except TimeoutError:
            raise TimedOut("no answer within the time an invocation may take") from None
        finally:
            for answer in answers:
                answer.cancel()

    def explain(self, image: Pixels, label: int, deadline: float) -> HeatMap:
        """The heat map of an image (crop, crop, 3) for class number `label`.

        `deadline` is on the monotonic clock. Raises as `predict`.
        """
        if self._explainer is None:
            raise NotReady("the model is not loaded")
        return self._explainer.explain(image, label, deadline)

    @contextmanager
    def decoder_slot(
        self, deadline: float, record: InvocationRecord | None = None
    ) -> Iterator[None]:
        """Hold one of the decoding slots, of which there is one per core.

        The times of waiting and of decoding are added to `record`. Raises TimedOut if no slot is
        free by `deadline` on the monotonic clock, or Overloaded if none is free for `DECODE_WAIT`.
        """
        requested = monotonic()
        left = deadline - requested
        if not self._decoders.acquire(timeout=max(0.0, min(left, DECODE_WAIT))):
            if left > DECODE_WAIT:
                raise Overloaded(f"no processor core was free to decode for {DECODE_WAIT:.0f} s")
            raise TimedOut("no answer within the time an invocation may take")
        record = record or InvocationRecord()
        began = monotonic()
        record.waited_to_decode(began - requested)
        try:
            yield
        finally:
            self._decoders.release()
            record.decode += monotonic() - began

    def _decode_next(
        self, pixels: Iterator[Pixels], deadline: float, record: InvocationRecord
    ) -> Pixels | None:
        if monotonic() > deadline:
            raise TimedOut("no answer within the time an invocation may take")
        with self.decoder_slot(deadline, record):
            return next(pixels, None)

    def _load_and_run(self) -> None:
        try:
            try:
                batcher = self._prepare()
            except BaseException as error:
                self._loaded.set_exception(error)
                raise
            self._loaded.set_result(None)
            if not self._stopping.is_set():
                batcher.run()
        except BerthError as error:
            self._fail(str(error))
        except Exception as error:
            self._fail(f"{self._model_dir}: {type(error).__name__}: {error}")

    def _prepare(self) -> Batcher:
        started = monotonic()
        self._health.move(State.LOADING, f"reading {self._model_dir}")
        artifact = Artifact.read(self._model_dir)
        if artifact.path != self._model_dir:
            LOG.warning(
                "%s has no model.json; serving its folder %s, which the archive was packed with",
                self._model_dir,
                artifact.path.relative_to(self._model_dir),
            )
        if artifact.checksums is None:
            LOG.info("%s: no checksums (an older version), files not verified", artifact.path)
        engine = self._load(artifact, cpus=self._cpus, gpu=self._gpu, precision=self._precision)
        self._health.move(State.WARMING, f"first prediction with {engine.name}")
        check(engine, artifact)
        batcher = Batcher(
            engine.predict,
            lambda: check(engine, artifact),
            max_batch=engine.max_batch,
            capacity=CAPACITY,
        )
        self._artifact, self._batcher, self._engine_name = artifact, batcher, engine.name
        cpus = 0 if self._gpu else self._cpus
        self._explainer = Explainer(artifact, self.predict, cpus, self._room)
        self._health.move(State.READY)
        LOG.info(
            "ready after %.2f s: %s, %d classes, %s",
            monotonic() - started,
            artifact.arch,
            len(artifact.classes),
            engine.name,
        )
        return batcher

    def _fail(self, cause: str) -> None:
        self._health.move(State.FAILED, cause)
        LOG.error("cannot serve: %s", " ".join(cause.split()))
