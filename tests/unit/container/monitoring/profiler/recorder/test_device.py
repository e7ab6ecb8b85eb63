from container.monitoring.profiler.recorder.device import MOST_MARKS, DeviceClock, DeviceSpans
from tests.unit.container.monitoring.profiler.clocks import Clock


class Stream:
    """A GPU that reaches each event, in order, `behind` seconds after it was recorded."""

    def __init__(self, host: Clock, behind: float) -> None:
        self.host, self.behind = host, round(behind * 1e9)
        self.made = 0
        self.drift = 1.0

    def event(self) -> "FakeEvent":
        self.made += 1
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.at = 0

    def record(self) -> None:
        self.at = self.stream.host.now + self.stream.behind

    def query(self) -> bool:
        return self.stream.host.now >= self.at

    def synchronize(self) -> None:
        self.stream.host.now = max(self.stream.host.now, self.at)

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert self.query()
        assert end.query()
        return (end.at - self.at) / 1e6 * self.stream.drift


def test_a_phase_has_its_duration_on_the_device() -> None:
    host = Clock()
    stream = Stream(host, 0.0)
    clock = DeviceClock(stream.event, host)
    spans = DeviceSpans(clock)
    host.advance(1)
    begin = clock.mark()
    stream.behind = round(0.5e9)  # the host is done at once, the device half a second later
    end = clock.mark()
    spans.add("forward", "train", 7, begin, end)
    assert list(spans.take()) == []
    host.advance(0.4)
    assert list(spans.take()) == []
    host.advance(0.2)
    ((span, start, stop),) = spans.take()
    assert (span.name, span.mode, span.step) == ("forward", "train", 7)
    assert (start, stop) == (10**9, round(1.5e9))
    assert list(spans.take()) == []


def test_closing_waits_for_the_device() -> None:
    host = Clock()
    stream = Stream(host, 0.0)
    clock = DeviceClock(stream.event, host)
    spans = DeviceSpans(clock)
    stream.behind = 10**9
    spans.add("forward", "train", 0, clock.mark(), clock.mark())
    assert len(list(spans.take(wait=True))) == 1
    assert host.now == 10**9


def test_events_are_reused() -> None:
    host = Clock()
    stream = Stream(host, 0.0)
    clock = DeviceClock(stream.event, host)
    for _ in range(100):
        host.advance(0.01)
        clock.mark()
        clock.mark()
        clock.resolve()
    assert stream.made <= 4


def test_the_number_of_unresolved_events_is_limited() -> None:
    host = Clock()
    stream = Stream(host, 0.0)
    clock = DeviceClock(stream.event, host)
    stream.behind = 10**12
    marks = [clock.mark() for _ in range(MOST_MARKS + 5)]
    assert marks[MOST_MARKS - 1] is not None
    assert marks[MOST_MARKS:] == [None] * 5
    spans = DeviceSpans(clock)
    spans.add("forward", "train", 0, marks[-1], marks[-2])
    assert list(spans.take(wait=True)) == []


def test_a_drifting_device_clock_follows_the_host() -> None:
    host = Clock()
    stream = Stream(host, 0.001)
    clock = DeviceClock(stream.event, host)
    for drift in (0.9, 1.1):
        stream.drift = drift
        for _ in range(1000):
            host.advance(0.1)
            mark = clock.mark()
            host.advance(0.01)
            clock.resolve()
            assert mark is not None
            assert mark.reached is not None
            assert mark.recorded <= mark.reached <= host.now
