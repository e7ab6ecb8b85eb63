import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import numpy as np
import pytest

from serve.models.turns import Turns, TurnTakingEngine
from serve.payloads.images import Pixels, Probabilities
from tests.unit.serve.artifacts import CROP, ChannelMeans


def waits(turns: Turns, count: int) -> None:
    until = monotonic() + 60
    while len(turns._waiting) < count:
        assert monotonic() < until
        sleep(0.001)


def test_turns_are_given_in_order_of_request() -> None:
    turns, order = Turns(), []

    def take(number: int) -> None:
        with turns.turn():
            order.append(number)

    with ThreadPoolExecutor(5) as pool:
        with turns.turn():
            for number in range(5):
                pool.submit(take, number)
                waits(turns, number + 2)
            # A thread that has had a turn comes last, however soon it requests another.
            pool.submit(take, 5)
        take(6)
    assert order[:5] == [0, 1, 2, 3, 4]
    assert sorted(order[5:]) == [5, 6]


def test_passes_run_one_at_a_time_and_an_error_frees_the_cores() -> None:
    turns, inside, most = Turns(), 0, 0

    def use() -> None:
        nonlocal inside, most
        with turns.turn():
            inside += 1
            most = max(most, inside)
            sleep(0.001)
            inside -= 1
            raise ValueError

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(use) for _ in range(40)]
    assert all(isinstance(each.exception(), ValueError) for each in done)
    assert most == 1
    assert turns.busy_for() == 0


def test_only_the_pass_itself_counts_as_busy() -> None:
    turns, entered, leave = Turns(), threading.Event(), threading.Event()

    def use() -> None:
        with turns.turn():
            entered.set()
            assert leave.wait(60)

    assert turns.busy_for() == 0
    with ThreadPoolExecutor(1) as pool:
        pool.submit(use)
        assert entered.wait(60)
        assert turns.busy_for() > 0
        leave.set()
    assert turns.busy_for() == 0


def test_an_engine_predicts_within_its_turn() -> None:
    turns = Turns()

    class Engine(ChannelMeans):
        def predict(self, batch: Pixels) -> Probabilities:
            assert turns.busy_for() > 0
            return super().predict(batch)

    engine = TurnTakingEngine(Engine(), turns)
    assert (engine.name, engine.max_batch) == ("channel means", 4)
    rows = engine.predict(np.zeros((2, CROP, CROP, 3), np.uint8))
    assert rows == pytest.approx(np.full((2, 3), 1 / 3))
