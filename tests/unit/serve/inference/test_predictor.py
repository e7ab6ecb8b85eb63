import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from container.artifact import checksum
from container.errors import ArtifactError
from serve.errors import BadRequest, EngineFailed, NotReady, Overloaded, TimedOut
from serve.inference import predictor as predictor_module
from serve.inference.engine import EngineError
from serve.inference.predictor import Predictor
from serve.payloads.images import Pixels, Probabilities
from tests.unit.serve.artifacts import CROP, ChannelMeans, wait_for, write_artifact


def images(*values: int) -> Iterator[Pixels]:
    return iter([np.full((CROP, CROP, 3), value, np.uint8) for value in values])


def soon() -> float:
    return monotonic() + 30


class FakeEngine(ChannelMeans):
    """Blocks while `open` is cleared, and raises `error` if it is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.error: Exception | None = None

    def predict(self, batch: Pixels) -> Probabilities:
        self.entered.release()
        assert self.open.wait(30)
        if self.error:
            raise self.error
        return super().predict(batch)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def served(engine: FakeEngine, model_dir: Path) -> Iterator[Predictor]:
    predictor = Predictor(model_dir, cpus=2, gpu=False, load=lambda *_, **__: engine)
    predictor.start()
    wait_for(predictor, "READY")
    assert engine.entered.acquire(timeout=60)  # The warm-up.
    yield predictor
    engine.open.set()
    predictor.stop()


def test_states_are_passed_in_order_and_ready_comes_after_a_prediction(model_dir: Path) -> None:
    gate, engine = threading.Event(), FakeEngine()
    engine.open.clear()

    def load(*_: Any, **options: Any) -> FakeEngine:
        assert options == {"cpus": 2, "gpu": False, "precision": "bfloat16"}
        assert gate.wait(30)
        return engine

    predictor = Predictor(model_dir, cpus=2, gpu=False, precision="bfloat16", load=load)
    assert predictor.status()["status"] == "STARTING"
    predictor.start()
    assert str(model_dir) in wait_for(predictor, "LOADING")["detail"]
    with pytest.raises(NotReady, match="the model is LOADING: reading"):
        _ = predictor.artifact
    with pytest.raises(NotReady):
        predictor.predict(images(1), soon())
    gate.set()
    assert wait_for(predictor, "WARMING")["detail"] == "first prediction with channel means"
    engine.open.set()
    assert wait_for(predictor, "READY") == {"status": "READY"}
    assert predictor.artifact.arch == "resnet18"
    predictor.stop()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ArtifactError("model.xml: damaged"), "model.xml: damaged"),
        (RuntimeError("out of\nluck"), "RuntimeError: out of luck"),
    ],
)
def test_a_model_that_cannot_load_is_failed_with_one_line(
    model_dir: Path, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise error

    predictor = Predictor(model_dir, cpus=1, gpu=False, load=load)
    predictor.start()
    assert said in wait_for(predictor, "FAILED")["detail"]
    predictor.stop()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert said in record.getMessage()
    with pytest.raises(NotReady, match="the model is FAILED: .*"):
        _ = predictor.artifact


def test_a_missing_model_is_failed(tmp_path: Path) -> None:
    predictor = Predictor(tmp_path / "model", cpus=1, gpu=False)
    predictor.start()
    assert "no model.json" in wait_for(predictor, "FAILED")["detail"]


@pytest.mark.parametrize("name", ["model.safetensors", "openvino/model.bin", "openvino/model.xml"])
@pytest.mark.parametrize("damage", ["cut short", "tampered"])
def test_a_file_with_another_checksum_is_never_served(
    model_dir: Path, name: str, damage: str
) -> None:
    (model_dir / "model.safetensors").write_bytes(b"weights")
    files = [path for path in model_dir.rglob("*") if path.is_file()]
    digests = {path.relative_to(model_dir).as_posix(): checksum(path) for path in files}
    description = json.loads((model_dir / "model.json").read_text())
    digests.pop("model.json")
    (model_dir / "model.json").write_text(json.dumps(description | {"sha256": digests}))
    file = model_dir / name
    data = file.read_bytes()
    file.write_bytes(data[:-1] if damage == "cut short" else bytes([data[0] ^ 1]) + data[1:])

    predictor = Predictor(model_dir, cpus=1, gpu=False, load=lambda *_, **__: ChannelMeans())
    predictor.start()
    detail = wait_for(predictor, "FAILED")["detail"]
    assert f"{name}: damaged or replaced" in detail
    with pytest.raises(NotReady):
        predictor.predict(images(1), soon())


def test_the_real_engine_answers(tmp_path: Path) -> None:
    predictor = Predictor(write_artifact(tmp_path), cpus=1, gpu=False)
    predictor.start()
    wait_for(predictor, "READY")
    (row,) = predictor.predict(images(100), soon())
    np.testing.assert_allclose(row, [1 / 3] * 3, atol=1e-6)
    predictor.stop()


def test_more_images_than_fit_a_batch_are_answered_in_order(predictor: Predictor) -> None:
    reds = [np.zeros((CROP, CROP, 3), np.uint8) for _ in range(30)]
    for value, image in enumerate(reds):
        image[..., 0] = value * 8
    rows = predictor.predict(iter(reds), soon())
    shares = [float(row[0]) for row in rows]
    assert len(shares) == 30
    assert shares == sorted(shares)


def test_a_bad_image_removes_the_earlier_images_of_its_request_from_the_queue(
    served: Predictor, engine: FakeEngine
) -> None:
    def some() -> Iterator[Pixels]:
        yield from images(1, 2, 3)
        raise BadRequest("instances[3]: not an image")

    engine.open.clear()
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(served.predict, images(0), soon())
        assert engine.entered.acquire(timeout=60)
        with pytest.raises(BadRequest):
            served.predict(some(), soon())
        engine.open.set()
        busy.result(30)
    served.predict(images(9), soon())
    assert engine.entered.acquire(timeout=60)
    assert not engine.entered.acquire(blocking=False), "a pass was made for a refused request"


def test_a_request_that_waits_too_long_times_out(served: Predictor, engine: FakeEngine) -> None:
    engine.open.clear()
    with pytest.raises(TimedOut):
        served.predict(images(1), monotonic() + 0.01)
    engine.open.set()
    assert len(served.predict(images(1), soon())) == 1


def test_a_request_past_its_deadline_is_neither_decoded_nor_computed(
    served: Predictor, engine: FakeEngine
) -> None:
    def never() -> Iterator[Pixels]:
        yield pytest.fail("decoded past the deadline")

    engine.open.clear()
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(served.predict, images(0), soon())
        assert engine.entered.acquire(timeout=60)
        with pytest.raises(TimedOut):
            served.predict(images(1, 2), monotonic() + 0.05)
        with pytest.raises(TimedOut):
            served.predict(never(), monotonic() - 1)
        engine.open.set()
        busy.result(60)
    served.predict(images(9), soon())
    assert engine.entered.acquire(timeout=60)
    assert not engine.entered.acquire(blocking=False), "a pass was made for nobody"


def test_waiting_for_a_turn_to_decode_ends_with_the_deadline(served: Predictor) -> None:
    entered, release = threading.Semaphore(0), threading.Event()

    def slow() -> Iterator[Pixels]:
        entered.release()
        assert release.wait(30)
        yield from images(1)

    def never() -> Iterator[Pixels]:
        yield pytest.fail("decoded without a turn")

    with ThreadPoolExecutor(2) as pool:
        decoding = [pool.submit(served.predict, slow(), soon()) for _ in range(2)]
        for _ in decoding:
            assert entered.acquire(timeout=60)
        with pytest.raises(TimedOut):
            served.predict(never(), monotonic() + 0.01)
        release.set()
        for future in decoding:
            assert len(future.result(30)) == 1


def test_a_failed_pass_is_reported_and_a_working_engine_continues(
    served: Predictor, engine: FakeEngine
) -> None:
    calls = 0

    def once(batch: Pixels) -> Probabilities:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("hiccup")
        return ChannelMeans().predict(batch)

    served._batcher._predict = once
    with pytest.raises(EngineFailed, match="hiccup"):
        served.predict(images(1), soon())
    assert served.status() == {"status": "READY"}
    assert len(served.predict(images(1), soon())) == 1


def test_a_dead_engine_is_failed_and_stays_so(served: Predictor, engine: FakeEngine) -> None:
    engine.error = EngineError("the device is gone")
    with pytest.raises(EngineFailed, match="the device is gone"):
        served.predict(images(1), soon())
    assert "the device is gone" in wait_for(served, "FAILED")["detail"]
    engine.error = None
    with pytest.raises(NotReady, match="FAILED"):
        _ = served.artifact


def test_a_pass_that_does_not_end_is_failed(
    served: Predictor, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor_module, "STUCK", 0.0)
    engine.open.clear()
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(served.predict, images(1), soon())
        assert engine.entered.acquire(timeout=60)
        assert served.status()["status"] == "FAILED"
        assert "busy" in served.status()["detail"]
        engine.open.set()
        assert len(answer.result(30)) == 1
    assert wait_for(served, "READY") == {"status": "READY"}


def test_stopping_refuses_what_comes_after(served: Predictor) -> None:
    served.stop()
    with pytest.raises(EngineFailed, match="stopping"):
        served.predict(images(1), soon())


def test_stopping_while_loading_waits_for_the_load_and_serves_nothing(model_dir: Path) -> None:
    gate, loading = threading.Event(), threading.Event()

    def load(*_: Any, **__: Any) -> ChannelMeans:
        loading.set()
        assert gate.wait(30)
        return ChannelMeans()

    predictor = Predictor(model_dir, cpus=1, gpu=False, load=load)
    predictor.start()
    assert loading.wait(30)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(predictor.stop)
        while not predictor._stopping.is_set():
            pass
        gate.set()
        stopping.result(30)
    assert not predictor._thread.is_alive()


def test_a_predictor_that_was_never_started_stops(model_dir: Path) -> None:
    predictor = Predictor(model_dir, cpus=1, gpu=False)
    predictor.stop()
    assert predictor.status()["status"] == "STARTING"


def test_a_model_within_a_folder_is_served_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gunicorn.error")
    write_artifact(tmp_path / "archive" / "my-model")
    predictor = Predictor(
        tmp_path / "archive", cpus=1, gpu=False, load=lambda *_, **__: ChannelMeans()
    )
    predictor.start()
    wait_for(predictor, "READY")
    predictor.stop()
    assert "serving its folder my-model" in caplog.text
    assert "files not verified" in caplog.text


def test_waiting_too_long_to_decode_is_an_overload(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor_module, "DECODE_WAIT", 0.05)
    with predictor.decoder_slot(soon()), predictor.decoder_slot(soon()):
        with pytest.raises(Overloaded), predictor.decoder_slot(soon()):
            pass
        with pytest.raises(TimedOut), predictor.decoder_slot(monotonic()):
            pass
    with predictor.decoder_slot(monotonic()):
        pass
