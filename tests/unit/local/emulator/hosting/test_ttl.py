import queue

import pytest

from local.emulator.errors import ServiceError
from local.emulator.hosting.ttl import TtlTimers, read_ttl


def test_the_tag() -> None:
    assert read_ttl({}) is None
    assert read_ttl({"berth:ttl": "90"}) == 90
    for text in ("", "soon", "0", "-1", "inf", "nan", "1e99"):
        with pytest.raises(ServiceError, match="berth:ttl") as caught:
            read_ttl({"berth:ttl": text})
        assert caught.value.code == "ValidationException"


def test_timers_are_set_moved_and_cancelled() -> None:
    over: queue.Queue[str] = queue.Queue()
    ttl_timers = TtlTimers(over.put)
    ttl_timers.set("cancelled", 0.05)
    ttl_timers.cancel("cancelled")
    ttl_timers.cancel("unknown")
    ttl_timers.set("moved", 60)
    ttl_timers.set("moved", 0.1)
    ttl_timers.set("past", -5)
    assert [over.get(timeout=60), over.get(timeout=60)] == ["past", "moved"]
    ttl_timers.set("late", 60)
    ttl_timers.close()
    ttl_timers.set("after", 0)
    with pytest.raises(queue.Empty):
        over.get(timeout=0.1)
