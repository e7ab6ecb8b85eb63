import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
import pytest

from serve.errors import EngineFailed, Overloaded
from serve.inference.batcher import Batcher
from serve.payloads.images import Pixels, Probabilities


class Gate:
    """An engine that records each batch and blocks until `open` is set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.dtypes: list[np.dtype[np.generic]] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.error: Exception | None = None
        self.dead = False

    def predict(self, batch: Pixels) -> Probabilities:
        self.batches.append([int(value) for value in batch[:, 0, 0, 0]])
        self.dtypes.append(batch.dtype)
        self.entered.release()
        assert self.open.wait(30)
        if self.error:
            raise self.error
        return batch[:, 0, 0, :1].astype(np.float32)

    def check(self) -> None:
        if self.dead:
            raise RuntimeError("no pulse")


def image(value: int, dtype: type = np.uint8) -> Pixels:
    return np.full((2, 2, 3), value, dtype)


@contextmanager
def running(gate: Gate, max_batch: int = 3, capacity: int = 100) -> Iterator[Batcher]:
    batcher = Batcher(gate.predict, gate.check, max_batch=max_batch, capacity=capacity)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(batcher.run)
        try:
            yield batcher
        finally:
            gate.open.set()
            batcher.close("the test is over")
            run.exception(30)


def test_images_queued_during_a_pass_are_batched_in_order() -> None:
    gate = Gate()
    with running(gate) as batcher:
        answers = [batcher.submit(image(0))]
        assert gate.entered.acquire(timeout=60)
        answers += [batcher.submit(image(value)) for value in range(1, 6)]
        gate.open.set()
        assert [answer.result(30)[0] for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert gate.batches == [[0], [1, 2, 3], [4, 5]]


def test_uint8_and_float_images_are_not_stacked_together() -> None:
    gate = Gate()
    with running(gate) as batcher:
        first = batcher.submit(image(0))
        assert gate.entered.acquire(timeout=60)
        mixed = [
            batcher.submit(image(1)),
            batcher.submit(image(2, np.float32)),
            batcher.submit(image(3, np.float32)),
        ]
        gate.open.set()
        assert not wait([first, *mixed], timeout=60).not_done
    assert gate.batches == [[0], [1], [2, 3]]
    assert gate.dtypes == [np.uint8, np.uint8, np.float32]


def test_a_full_queue_refuses_and_a_cancelled_image_makes_room() -> None:
    gate = Gate()
    with running(gate, capacity=2) as batcher:
        batcher.submit(image(0))
        assert gate.entered.acquire(timeout=60)
        waiting = [batcher.submit(image(1)), batcher.submit(image(2))]
        with pytest.raises(Overloaded, match="2 images are waiting"):
            batcher.submit(image(3))
        assert waiting[0].cancel()
        late = batcher.submit(image(4))
        gate.open.set()
        assert late.result(30)[0] == 4
    assert gate.batches == [[0], [2, 4]]


def test_a_failed_batch_does_not_affect_the_next() -> None:
    gate = Gate()
    gate.open.set()
    with running(gate) as batcher:
        gate.error = ValueError("bad luck")
        with pytest.raises(EngineFailed, match="ValueError: bad luck"):
            batcher.submit(image(1)).result(30)
        gate.error = None
        assert batcher.submit(image(2)).result(30)[0] == 2


def test_a_dead_engine_fails_all_and_ends_the_run() -> None:
    gate = Gate()
    gate.error, gate.dead = MemoryError("gone"), True
    batcher = Batcher(gate.predict, gate.check, max_batch=1, capacity=10)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(batcher.run)
        answers = [batcher.submit(image(value)) for value in range(3)]
        gate.open.set()
        for answer in answers:
            with pytest.raises(EngineFailed, match="gone"):
                answer.result(30)
        with pytest.raises(RuntimeError, match="no pulse"):
            run.result(30)
    with pytest.raises(EngineFailed, match="gone"):
        batcher.submit(image(4))


def test_a_wrong_number_of_answers_is_a_failure_not_a_mix_up() -> None:
    with ThreadPoolExecutor(1) as pool:
        batcher = Batcher(
            lambda batch: np.zeros((len(batch) + 1, 2), np.float32),
            lambda: None,
            max_batch=4,
            capacity=4,
        )
        pool.submit(batcher.run)
        with pytest.raises(EngineFailed, match="2 rows for 1 images"):
            batcher.submit(image(1)).result(30)
        batcher.close("the test is over")


def test_busy_for_counts_only_while_a_pass_runs() -> None:
    gate = Gate()
    with running(gate) as batcher:
        assert batcher.busy_for() == 0
        answer = batcher.submit(image(1))
        assert gate.entered.acquire(timeout=60)
        assert batcher.busy_for() > 0
        gate.open.set()
        answer.result(30)
        batcher.close("no more")
    assert batcher.busy_for() == 0


def test_every_answer_goes_to_its_own_image_under_load() -> None:
    batcher = Batcher(
        lambda batch: batch[:, 0, 0, :1].astype(np.float32), lambda: None, max_batch=7, capacity=400
    )
    with ThreadPoolExecutor(9) as pool:
        pool.submit(batcher.run)
        sent = [value % 256 for value in range(400)]
        got = list(pool.map(lambda value: batcher.submit(image(value)).result(30)[0], sent))
        batcher.close("the test is over")
    assert got == sent
