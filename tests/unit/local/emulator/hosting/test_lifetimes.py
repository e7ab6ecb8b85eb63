import queue

import pytest

from local.emulator.errors import ServiceError
from local.emulator.hosting.lifetimes import Lifetimes, read_lifetime


def test_the_tag() -> None:
    assert read_lifetime({}) is None
    assert read_lifetime({"berth:ttl": "90"}) == 90
    for text in ("", "soon", "0", "-1", "inf", "nan", "1e99"):
        with pytest.raises(ServiceError, match="berth:ttl") as caught:
            read_lifetime({"berth:ttl": text})
        assert caught.value.code == "ValidationException"


def test_clocks_are_set_moved_and_taken_away() -> None:
    over: queue.Queue[str] = queue.Queue()
    lifetimes = Lifetimes(over.put)
    lifetimes.set("cancelled", 0.05)
    lifetimes.cancel("cancelled")
    lifetimes.cancel("unknown")
    lifetimes.set("moved", 60)
    lifetimes.set("moved", 0.1)
    lifetimes.set("past", -5)
    assert [over.get(timeout=5), over.get(timeout=5)] == ["past", "moved"]
    lifetimes.set("late", 60)
    lifetimes.close()
    lifetimes.set("after", 0)
    with pytest.raises(queue.Empty):
        over.get(timeout=0.1)
