import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from container.artifact import Artifact
from serve.errors import BadRequest, EngineFailed, OutOfMemory, TimedOut
from serve.explanations import explainer as explainer_module
from serve.inference.engine import EngineError
from serve.models import registry as registry_module
from serve.models.known import KnownModels
from serve.models.memory import RESERVE
from serve.models.registry import Registry
from serve.payloads.images import Pixels, Probabilities
from tests.unit.serve.artifacts import CROP, ChannelMeans, write_artifact

GIB = 1 << 30


def soon() -> float:
    return monotonic() + 60


def image() -> Iterator[Pixels]:
    return iter([np.zeros((CROP, CROP, 3), np.uint8)])


def eventually(condition: Callable[[], object]) -> None:
    until = monotonic() + 60
    while not condition():
        assert monotonic() < until
        sleep(0.001)


class GatedEngine(ChannelMeans):
    """Waits while `open` is cleared, and raises `error` if it is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.error: Exception | None = None

    def predict(self, batch: Pixels) -> Probabilities:
        self.entered.release()
        assert self.open.wait(60)
        if self.error:
            raise self.error
        return super().predict(batch)


class Machine:
    """Loads gated engines, each of which takes 1 GiB of the machine's memory."""

    def __init__(
        self, root: Path, gibibytes: int, taken: Callable[[], int] = lambda: 0, **options: Any
    ) -> None:
        self.root = root
        self.taken = taken
        self.memory = gibibytes * GIB
        self.engines: dict[str, GatedEngine] = {}
        self.loads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.registry = Registry(
            root, cpus=2, load=self.load_engine, available=self.available, **options
        )

    def load_engine(self, artifact: Artifact, **_: Any) -> GatedEngine:
        name = artifact.path.parent.name
        self.loads.append(name)
        assert self.gate.wait(60)
        if self.error:
            raise self.error
        self.engines[name] = engine = GatedEngine()
        return engine

    def available(self) -> int:
        return self.memory + RESERVE - GIB * len(self.registry.names()) - self.taken()

    def url(self, name: str) -> str:
        return f"{self.root}/{name}/model"

    def load(self, name: str) -> None:
        if not (self.root / name).exists():
            write_artifact(self.root / name / "model")
        self.registry.load(name, self.url(name))

    def invoke(self, name: str) -> int:
        with self.registry.use(name, soon()) as predictor:
            return len(predictor.predict(image(), soon()))

    @property
    def loaded(self) -> list[str]:
        return [name for name, _ in self.registry.names()]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Machine]]:
    monkeypatch.setattr(registry_module, "memory_needed", lambda *_: GIB)
    made: list[Machine] = []

    def make(gibibytes: int = 8, **options: Any) -> Machine:
        machine = Machine(tmp_path / "models", gibibytes, **options)
        made.append(machine)
        return machine

    yield make
    for machine in made:
        machine.gate.set()
        for engine in machine.engines.values():
            engine.open.set()
        machine.registry.stop()


def test_models_are_loaded_used_and_unloaded(machine: Callable[..., Machine]) -> None:
    server = machine()
    assert server.registry.status() == {"status": "READY"}
    server.load("b")
    server.load("a")
    assert server.registry.names() == [("a", server.url("a")), ("b", server.url("b"))]
    assert server.registry.url_of("b") == server.url("b")
    assert server.invoke("a") == server.invoke("b") == 1
    server.registry.unload("a")
    assert server.loaded == ["b"]
    for gone in (server.invoke, server.registry.url_of, server.registry.unload):
        with pytest.raises(BadRequest, match="'a' is not loaded") as refusal:
            gone("a")
        assert refusal.value.status == 404
    server.load("a")
    assert server.invoke("a") == 1
    assert server.registry.status() == {"status": "READY"}


def test_loading_a_loaded_model_is_a_conflict(machine: Callable[..., Machine]) -> None:
    server = machine()
    server.load("a")
    with pytest.raises(BadRequest) as refusal:
        server.load("a")
    assert refusal.value.status == 409
    assert server.loads == ["a"]


def test_concurrent_loads_of_one_model_load_it_once(machine: Callable[..., Machine]) -> None:
    server = machine()
    server.gate.clear()
    write_artifact(server.root / "a" / "model")

    def load() -> int:
        try:
            server.load("a")
        except BadRequest as error:
            return error.status
        return 200

    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(load) for _ in range(6)]
        eventually(lambda: server.loads)
        invoked = pool.submit(server.invoke, "a")
        server.gate.set()
        statuses = sorted(answer.result(60) for answer in answers)
        assert invoked.result(60) == 1, "an invocation waits for the load under way"
    assert statuses == [200, *[409] * 5]
    assert server.loads == ["a"]


def test_a_failed_load_fails_all_waiting_requests_and_may_be_retried(
    machine: Callable[..., Machine],
) -> None:
    server = machine()
    server.gate.clear()
    server.error = EngineError(f"{server.url('a')}/openvino/model.xml: damaged")
    write_artifact(server.root / "a" / "model")
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(server.load, "a") for _ in range(3)]
        eventually(lambda: server.loads)
        server.gate.set()
        for answer in answers:
            error = answer.exception(60)
            assert isinstance(error, BadRequest)
            assert (error.status, "openvino/model.xml: damaged" in str(error)) == (400, True)
            assert str(server.root) not in str(error)
    assert server.loaded == []
    server.error = None
    server.load("a")
    assert server.invoke("a") == 1


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemory("none")])
def test_running_out_of_memory_while_loading_is_reported(
    machine: Callable[..., Machine], error: Exception
) -> None:
    server = machine()
    server.error = error
    with pytest.raises(OutOfMemory):
        server.load("a")
    server.error = None
    server.load("a")


def test_the_least_recently_used_model_is_evicted_when_memory_is_low(
    machine: Callable[..., Machine],
) -> None:
    server = machine(3)
    for name in "abc":
        server.load(name)
    server.invoke("a")
    server.load("d")
    assert server.loaded == ["a", "c", "d"]
    server.invoke("c")
    server.load("e")
    assert server.loaded == ["c", "d", "e"]


def test_explanations_use_free_memory_and_are_counted(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes as much memory as a model: there are four models and room for two explanations."""
    explained: list[Path] = []

    def compiled(graph: Path, _cpus: int) -> Any:
        explained.append(graph)
        return SimpleNamespace(heat=lambda *_: np.zeros((1, 1)))

    monkeypatch.setattr(registry_module, "memory_to_explain", lambda _: GIB)
    monkeypatch.setattr(explainer_module, "ClassActivation", SimpleNamespace(of=compiled))

    def taken() -> int:
        return GIB * sum(graph.parents[2].name in server.loaded for graph in explained)

    server = machine(6, taken=taken)
    for name in "abcd":
        server.load(name)
    shapes = []
    for name in "abcda":
        with server.registry.use(name, soon()) as predictor:
            shapes.append(predictor.explain(next(image()), 0, soon()).shape)
    assert shapes == [(1, 1), (1, 1), (7, 7), (7, 7), (1, 1)], "the others by occlusion"
    assert server.loaded == ["a", "b", "c", "d"], "none had to leave"

    monkeypatch.setattr(registry_module, "memory_needed", lambda *_: 6 * GIB)
    with server.registry.use("c", soon()), pytest.raises(OutOfMemory):
        server.load("large")
    assert server.loaded == ["a", "b", "c", "d"], "without c, what may leave is not enough"
    monkeypatch.setattr(registry_module, "memory_needed", lambda *_: 5 * GIB)
    with server.registry.use("c", soon()):
        server.load("large")
    assert server.loaded == ["c", "large"]


def test_the_number_of_loaded_models_is_limited(machine: Callable[..., Machine]) -> None:
    server = machine(99, most=2)
    for name in "abc":
        server.load(name)
    assert server.loaded == ["b", "c"]


def test_an_evicted_model_is_loaded_again_by_its_next_use(machine: Callable[..., Machine]) -> None:
    server = machine(99, most=1)
    server.load("a")
    server.load("b")
    assert server.loaded == ["b"]
    with pytest.raises(BadRequest, match="not loaded"):
        server.registry.url_of("a")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(server.invoke, ["a"] * 4)) == [1] * 4
    assert server.loads == ["a", "b", "a"]
    assert server.loaded == ["a"]


def test_an_evicted_model_can_be_loaded_or_unloaded_by_name(
    machine: Callable[..., Machine],
) -> None:
    server = machine(99, most=1)
    server.load("a")
    server.load("b")
    server.load("a")
    assert server.loaded == ["a"]
    server.registry.unload("b")
    with pytest.raises(BadRequest, match="'b' is not loaded"):
        server.invoke("b")


def test_a_registry_reloads_the_models_of_an_earlier_one(
    machine: Callable[..., Machine],
) -> None:
    with tempfile.TemporaryFile() as file:
        earlier = machine(99, most=2, known=KnownModels(file))
        for name in "abcd":
            earlier.load(name)
        earlier.registry.unload("b")
        server = machine(99, most=2, known=KnownModels(file))
        assert server.loaded == []
        for name in "acd":
            assert server.invoke(name) == 1
        with pytest.raises(BadRequest, match="'b' is not loaded"):
            server.invoke("b")


def test_an_evicted_model_whose_folder_has_gone_is_not_loaded(
    machine: Callable[..., Machine],
) -> None:
    server = machine(99, most=1)
    server.load("a")
    server.load("b")
    (server.root / "a").rename(server.root / "elsewhere")
    with pytest.raises(BadRequest) as refusal:
        server.invoke("a")
    assert refusal.value.status == 404
    assert server.invoke("b") == 1


def test_a_model_too_large_for_the_memory_evicts_no_other(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = machine(2)
    server.load("a")
    server.load("b")
    monkeypatch.setattr(registry_module, "memory_needed", lambda *_: 3 * GIB)
    with pytest.raises(OutOfMemory, match="expected 3,328 MiB"):
        server.load("huge")
    assert server.loaded == ["a", "b"]


def test_models_in_use_are_not_evicted(machine: Callable[..., Machine]) -> None:
    server = machine(1)
    server.load("a")
    with server.registry.use("a", soon()), pytest.raises(OutOfMemory):
        server.load("b")
    assert server.loaded == ["a"]
    server.load("b")
    assert server.loaded == ["b"]
    capped = machine(99, most=1)
    capped.load("a")
    with capped.registry.use("a", soon()), pytest.raises(OutOfMemory, match="BERTH_MAX_MODELS"):
        capped.load("b")


def test_an_invocation_on_a_model_that_is_unloaded_is_answered(
    machine: Callable[..., Machine],
) -> None:
    server = machine()
    server.load("a")
    engine = server.engines["a"]
    assert engine.entered.acquire(timeout=60)  # The warm-up.
    engine.open.clear()
    with ThreadPoolExecutor(2) as pool:
        invoked = pool.submit(server.invoke, "a")
        assert engine.entered.acquire(timeout=60)
        unloaded = pool.submit(server.registry.unload, "a")
        eventually(lambda: server.loaded == [])
        with pytest.raises(BadRequest, match="not loaded"):
            server.invoke("a")
        assert not unloaded.done(), "its memory is not free yet"
        engine.open.set()
        assert invoked.result(60) == 1
        unloaded.result(60)


def test_a_model_in_use_for_too_long_is_unloaded(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "UNLOAD_SECONDS", 0.01)
    server = machine()
    server.load("a")
    with server.registry.use("a", soon()) as predictor:
        server.registry.unload("a")
        with pytest.raises(EngineFailed):
            predictor.predict(image(), soon())


def test_an_unload_waits_for_the_load_under_way(machine: Callable[..., Machine]) -> None:
    server = machine()
    server.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        loaded = pool.submit(server.load, "a")
        eventually(lambda: server.loads)
        unloaded = pool.submit(server.registry.unload, "a")
        server.gate.set()
        loaded.result(60)
        unloaded.result(60)
    assert server.loaded == []


def test_an_engine_is_freed_at_once_with_its_model(machine: Callable[..., Machine]) -> None:
    server = machine()
    server.load("a")
    server.invoke("a")
    engine = weakref.ref(server.engines.pop("a"))
    server.registry.unload("a")
    assert engine() is None
    for name in "bc":
        server.load(name)
    evicted = weakref.ref(server.engines.pop("b"))
    server.memory = 2 * GIB
    server.load("d")
    assert evicted() is None


def test_a_use_past_its_deadline_is_not_started(machine: Callable[..., Machine]) -> None:
    server = machine()
    server.load("a")
    with pytest.raises(TimedOut), server.registry.use("a", monotonic() - 1):
        pytest.fail("begun")
    server.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(server.load, "b")
        eventually(lambda: server.loads == ["a", "b"])
        with pytest.raises(TimedOut), server.registry.use("b", monotonic() + 0.01):
            pytest.fail("begun")
        server.gate.set()
        loaded.result(60)
    assert server.invoke("b") == 1


def test_a_dead_engine_fails_the_server_until_its_model_is_unloaded(
    machine: Callable[..., Machine],
) -> None:
    server = machine()
    server.load("a")
    server.load("b")
    server.engines["a"].error = EngineError("the device is gone")
    with pytest.raises(EngineFailed):
        server.invoke("a")
    eventually(lambda: server.registry.status()["status"] == "FAILED")
    assert "the device is gone" in server.registry.status()["detail"]
    assert server.invoke("b") == 1
    server.registry.unload("a")
    assert server.registry.status() == {"status": "READY"}


def test_a_pass_that_does_not_end_fails_the_server(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = machine()
    server.load("a")
    engine = server.engines["a"]
    assert engine.entered.acquire(timeout=60)
    engine.open.clear()
    with ThreadPoolExecutor(1) as pool:
        invoked = pool.submit(server.invoke, "a")
        assert engine.entered.acquire(timeout=60)
        assert server.registry.status() == {"status": "READY"}
        monkeypatch.setattr(registry_module, "STUCK", 0.0)
        eventually(lambda: server.registry.status()["status"] == "FAILED")
        monkeypatch.undo()
        engine.open.set()
        assert invoked.result(60) == 1


def test_the_real_engine_and_the_real_memory_serve_two_models(tmp_path: Path) -> None:
    registry = Registry(tmp_path, cpus=1)
    for name in ("a", "b"):
        write_artifact(tmp_path / name / "model")
        registry.load(name, f"{tmp_path}/{name}/model")
    for name in ("a", "b"):
        with registry.use(name, soon()) as predictor:
            (row,) = predictor.predict(image(), soon())
            assert row == pytest.approx([1 / 3] * 3, abs=1e-6)
    registry.stop()


@pytest.mark.parametrize("damage", ["model.xml", "model.bin"])
def test_a_damaged_graph_is_one_line_without_paths(tmp_path: Path, damage: str) -> None:
    model = write_artifact(tmp_path / "models" / "a" / "model")
    graph = model / "openvino" / damage
    graph.write_bytes(graph.read_bytes()[: 400 if damage == "model.xml" else 3])
    registry = Registry(tmp_path / "models", cpus=1)
    with pytest.raises(BadRequest, match="openvino/model.xml: OpenVINO cannot load it") as refusal:
        registry.load("a", str(model))
    assert str(tmp_path) not in str(refusal.value)
    assert ".cpp" not in str(refusal.value)
