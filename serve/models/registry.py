"""The models of a multi-model endpoint: loads, uses, evicts and unloads them.

    registry = Registry(Path("/opt/ml/models"), cpus=2)
    registry.load("a1b2", "/opt/ml/models/a1b2/model")
    with registry.use("a1b2", deadline=monotonic() + 55) as predictor:
        predictor.predict(images.pixels, deadline)

When memory runs short, the least recently used models are evicted. Their next use loads them again,
because SageMaker does not know that they were evicted. The same happens after a worker process
dies.
"""

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from container.artifact import Artifact
from container.errors import BerthError
from container.memory import available_memory
from serve.errors import BadRequest, NotReady, OutOfMemory, TimedOut, one_line
from serve.inference.engine import Engine, load_engine
from serve.inference.health import State
from serve.inference.predictor import STUCK, Predictor
from serve.metrics import ModelDescription
from serve.models.folders import model_folder
from serve.models.known import KnownModels
from serve.models.memory import RESERVE, memory_needed, memory_to_explain, release_memory
from serve.models.turns import Turns, TurnTakingEngine

LOG = logging.getLogger("gunicorn.error")

REMEMBERED = 10_000
"""Evicted models to remember, at most."""

UNLOAD_SECONDS = 60.0
"""Seconds that an unloaded model's invocations may still take: SageMaker's timeout."""

MIB = 1 << 20


@dataclass
class LoadedModel:
    """A model in memory.

    Attributes:
        users: number of invocations that use it.
        size: estimated bytes of memory.
    """

    name: str
    url: str
    predictor: Predictor
    size: int = 0
    users: int = 0


@dataclass
class _Load:
    """A model being loaded; other threads wait for `done`."""

    name: str
    url: str
    size: int = 0
    done: "Future[None]" = field(default_factory=Future)


class Registry:
    """Models by name; thread-safe.

    Args:
        root: the folder of the models' folders.
        cpus: number of cores for a forward pass, and of images decoded at a time.
        precision: precision of forward passes, see `load_engine`.
        most: most models in memory; None for no limit but memory.
        known: models that an earlier worker had loaded; each is loaded again when it is used.
        load: loads an engine.
        available: returns the bytes of free memory.
    """

    def __init__(
        self,
        root: Path,
        *,
        cpus: int,
        precision: str = "auto",
        most: int | None = None,
        known: KnownModels | None = None,
        load: Callable[..., Engine] = load_engine,
        available: Callable[[], int] = available_memory,
    ) -> None:
        self._root = root
        self._cpus = cpus
        self._precision = precision
        self._most = most
        self._load_engine = load
        self._available = available
        self._decoders = threading.BoundedSemaphore(cpus)
        self._turns = Turns()
        self._changed = threading.Condition()
        # The least recently used comes first.
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._loads: dict[str, _Load] = {}
        self._known = known
        self._evicted: OrderedDict[str, str] = OrderedDict(known.read() if known else {})
        # One load at a time, because each measures the free memory.
        self._loading = threading.Lock()
        self._predictors: set[Predictor] = set()

    def load(self, name: str, url: str) -> None:
        """Load the model in the folder `url`; concurrent loads of a name load it once.

        Raises:
            BadRequest: 409 if it is loaded already or by a concurrent call; 400 if there is no such
                model below the root, or it cannot be served.
            OutOfMemory: models in use leave too little memory.
        """
        with self._changed:
            if name in self._models:
                raise _loaded(name)
            running = self._loads.get(name)
            if running is None:
                load = self._loads[name] = _Load(name, url)
        if running is not None:
            running.done.result()
            raise _loaded(name)
        self._run(load)

    def names(self) -> list[tuple[str, str]]:
        """(name, url) of the models in memory, sorted."""
        with self._changed:
            return sorted((model.name, model.url) for model in self._models.values())

    def descriptions(self) -> list[ModelDescription]:
        """The models in memory, for /metrics."""
        with self._changed:
            models = list(self._models.values())
        found = [model.predictor.description(model.name) for model in models]
        return [description for description in found if description is not None]

    @property
    def waiting(self) -> int:
        """Number of images waiting for an engine."""
        with self._changed:
            return sum(model.predictor.waiting for model in self._models.values())

    def url_of(self, name: str) -> str:
        """The URL of a model in memory. Raises BadRequest, 404, for others."""
        with self._changed:
            if name not in self._models:
                raise _unknown(name)
            return self._models[name].url

    @contextmanager
    def use(self, name: str, deadline: float) -> Iterator[Predictor]:
        """A context with the model's predictor, which stays loaded within the block.

        Raises:
            BadRequest: 404 for a model that is not loaded.
            OutOfMemory: it was evicted and does not fit now.
            TimedOut: it is still being loaded at `deadline` on the monotonic clock.
        """
        model = self._acquire(name, deadline)
        try:
            yield model.predictor
        finally:
            with self._changed:
                model.users -= 1
                self._changed.notify_all()

    def unload(self, name: str) -> None:
        """Wait for a model's invocations, then unload it and free its memory.

        Raises BadRequest, 404, for a model that is not loaded.
        """
        predictor = self._take(name)
        if predictor is not None:
            self._end(predictor)
            del predictor
            release_memory()
        LOG.info("unloaded %s", one_line(name))

    def status(self) -> dict[str, str]:
        """READY; FAILED while a forward pass hangs or after an engine died."""
        if (seconds := self._turns.busy_for()) > STUCK:
            detail = f"an engine has been busy with one forward pass for {seconds:.0f} s"
            return {"status": State.FAILED, "detail": detail}
        with self._changed:
            models = list(self._models.values())
        for model in models:
            try:
                _ = model.predictor.artifact
            except NotReady as error:
                return {"status": State.FAILED, "detail": f"{one_line(model.name)}: {error}"}
        return {"status": State.READY}

    def stop(self) -> None:
        """Stop every engine; waiting requests fail."""
        with self._changed:
            predictors = list(self._predictors)
        for predictor in predictors:
            predictor.stop()

    def _acquire(self, name: str, deadline: float) -> LoadedModel:
        while monotonic() <= deadline:
            with self._changed:
                model = self._models.get(name)
                if model is not None:
                    self._models.move_to_end(name)
                    model.users += 1
                    return model
                running = self._loads.get(name)
                if running is None:
                    if name not in self._evicted:
                        raise _unknown(name)
                    load = self._loads[name] = _Load(name, self._evicted[name])
            try:
                if running is None:
                    self._run(load)
                else:
                    running.done.result(max(0.0, deadline - monotonic()))
            except TimeoutError:
                break
            except BadRequest:
                # Its folder was deleted or replaced since it was evicted.
                with self._changed:
                    self._evicted.pop(name, None)
                raise _unknown(name) from None
        raise TimedOut("the model was not loaded within the time an invocation may take")

    def _take(self, name: str) -> Predictor | None:
        """Remove a model and wait for its users; returns its predictor, None if it was evicted."""
        with self._changed:
            self._changed.wait_for(lambda: name not in self._loads)
            model = self._models.pop(name, None)
            if self._evicted.pop(name, None) is None and model is None:
                raise _unknown(name)
            self._write_known()
            if model is None:
                return None
            self._changed.wait_for(lambda: model.users == 0, UNLOAD_SECONDS)
            return model.predictor

    def _run(self, load: _Load) -> None:
        """Load a model and wake the threads that wait for it."""
        try:
            with self._loading:
                model = self._start(load)
        except BaseException as error:
            self._settle(load, error=error)
            raise
        self._settle(load, model)

    def _settle(
        self,
        load: _Load,
        model: LoadedModel | None = None,
        error: BaseException | None = None,
    ) -> None:
        with self._changed:
            del self._loads[load.name]
            if model is not None:
                self._models[load.name] = model
                self._evicted.pop(load.name, None)
                self._write_known()
            self._changed.notify_all()
        if error is not None:
            load.done.set_exception(error)
        else:
            load.done.set_result(None)

    def _write_known(self) -> None:
        """Record the loaded and evicted models for the next worker."""
        if self._known is not None:
            loaded = {model.name: model.url for model in self._models.values()}
            self._known.write(dict(self._evicted) | loaded)

    def _start(self, load: _Load) -> LoadedModel:
        folder = model_folder(self._root, load.url)
        started = monotonic()

        def engine(artifact: Artifact, **options: Any) -> Engine:
            load.size = memory_needed(artifact, self._cpus, self._precision)
            self._make_room(load.size)
            return TurnTakingEngine(self._load_engine(artifact, **options), self._turns)

        predictor = Predictor(
            folder,
            cpus=self._cpus,
            gpu=False,
            precision=self._precision,
            load=engine,
            decoders=self._decoders,
            room=lambda deadline: self._room_to_explain(load.name, predictor, deadline),
        )
        with self._changed:
            self._predictors.add(predictor)
        predictor.start()
        if error := predictor.failure():
            refusal = _refusal(error, folder)
            self._end(predictor)
            # Both refer to the loaded model.
            del predictor, error
            release_memory()
            raise refusal
        LOG.info(
            "loaded %s after %.2f s, taking at most %d MiB",
            one_line(load.name),
            monotonic() - started,
            load.size // MIB,
        )
        return LoadedModel(load.name, load.url, predictor, load.size)

    @contextmanager
    def _room_to_explain(self, name: str, predictor: Predictor, deadline: float) -> Iterator[None]:
        """Reserve memory for a model's first explanation, without evicting other models.

        Raises OutOfMemory if too little is free, and TimedOut if a load takes until `deadline`.
        """
        needed = memory_to_explain(predictor.artifact)
        # A concurrent load would count this memory as free.
        if not self._loading.acquire(timeout=max(0.0, deadline - monotonic())):
            raise TimedOut("no answer within the time an invocation may take")
        try:
            before = self._available()
            if needed + RESERVE > before:
                raise OutOfMemory("memory: too little is free to explain with the model's graph")
            yield
            taken = min(needed, max(0, before - self._available()))
        finally:
            self._loading.release()
        with self._changed:
            model = self._models.get(name)
            if model is not None and model.predictor is predictor:
                model.size += taken

    def _make_room(self, needed: int) -> None:
        """Evict models until `needed` bytes fit; evicts none if that would not be enough."""
        with self._changed:
            idle = sum(model.size for model in self._models.values() if not model.users)
        if needed + RESERVE > self._available() + idle:
            raise self._no_room(needed)
        while not self._fits(needed):
            with self._changed:
                model = next((each for each in self._models.values() if not each.users), None)
                if model is None:
                    raise self._no_room(needed)
                del self._models[model.name]
                self._evicted[model.name] = model.url
                while len(self._evicted) > REMEMBERED:
                    self._evicted.popitem(last=False)
            name = model.name
            self._end(model.predictor)
            del model
            release_memory()
            LOG.info("evicted %s, the least recently used model", one_line(name))

    def _fits(self, needed: int) -> bool:
        if self._most is not None and len(self._models) >= self._most:
            return False
        return needed + RESERVE <= self._available()

    def _no_room(self, needed: int) -> OutOfMemory:
        if self._most is not None and len(self._models) >= self._most:
            return OutOfMemory(
                f"models: found {len(self._models)} in use, expected fewer than BERTH_MAX_MODELS "
                f"({self._most})"
            )
        return OutOfMemory(
            f"memory: found {self._available() // MIB:,} MiB free besides the models in use, "
            f"expected {(needed + RESERVE) // MIB:,} MiB for this model and its requests"
        )

    def _end(self, predictor: Predictor) -> None:
        predictor.stop()
        with self._changed:
            self._predictors.discard(predictor)


def _loaded(name: str) -> BadRequest:
    return BadRequest(f"model_name: {one_line(name)!r} is loaded already", 409)


def _unknown(name: str) -> BadRequest:
    return BadRequest(f"model: {one_line(name)!r} is not loaded, POST /models loads it", 404)


def _refusal(error: BaseException, folder: Path) -> BaseException:
    """The response to a failed request to load a model; unexpected errors are unchanged."""
    if isinstance(error, BerthError):
        return BadRequest(f"the model cannot be served: {_shown(error, folder)}")
    if isinstance(error, MemoryError):
        return OutOfMemory("memory: none was left while loading the model")
    return error


def _shown(error: BerthError, folder: Path) -> str:
    """The error without the folder's path and without locations in OpenVINO's source."""
    text = str(error).replace(f"{folder}/", "").replace(str(folder), "the model")
    text = re.sub(r"Exception from \S+?:\d+: ", "", text)
    return re.sub(r"Check '.*?' failed at \S+?:\d+: ", "", text)
