"""How long phases take on a GPU, which runs behind the host that gives it work.

Events are recorded on the current stream where phases begin and end, and queried later, by another
thread, for whether the GPU has reached them; nothing waits. Times between neighbouring events are
added up from a first event whose host time is known, and kept between what is certain: no event
happens before it is recorded, nor after it is found to have happened.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import torch

MOST_MARKS = 8192
"""Events in flight; more would mean that nobody asks for them, and no more are recorded."""


class DeviceEvent(Protocol):
    """What of `torch.cuda.Event` is used."""

    def record(self) -> Any:
        """Put it on the current stream."""

    def query(self) -> bool:
        """Whether the device has come by."""

    def synchronize(self) -> Any:
        """Wait until it has."""

    def elapsed_time(self, end: Any) -> float:
        """Milliseconds from this event to another, both come by."""


@dataclass(slots=True)
class Mark:
    """A moment on the device.

    Attributes:
        recorded: host nanoseconds just before it was put on the stream.
        reached: host nanoseconds at which the device came by; None until that is known.
    """

    event: DeviceEvent
    recorded: int
    reached: int | None = None


class DeviceClock:
    """Marks moments on a device and tells later when they were.

    Args:
        make: makes an event that measures time.
        clock: host nanoseconds.
    """

    def __init__(self, make: Callable[[], DeviceEvent], clock: Callable[[], int]) -> None:
        self._make, self._clock = make, clock
        self._free: deque[DeviceEvent] = deque()
        self._marks: deque[Mark] = deque()
        first = make()
        first.record()
        first.synchronize()
        now = clock()
        self._before = Mark(first, now, now)

    def mark(self) -> Mark | None:
        """Mark this moment; None if too many are in flight or the device has failed.

        A failure is the training loop's to report, whose own calls meet it too.
        """
        if len(self._marks) >= MOST_MARKS:
            return None
        try:
            event = self._free.popleft() if self._free else self._make()
            mark = Mark(event, self._clock())
            event.record()
        except RuntimeError:
            return None
        self._marks.append(mark)
        return mark

    def resolve(self) -> None:
        """Date the marks that the device has come by, oldest first, without waiting for any."""
        while self._marks and self._marks[0].event.query():
            self._date(self._marks.popleft())

    def finish(self) -> None:
        """Date all marks, waiting for the device."""
        if self._marks:
            self._marks[-1].event.synchronize()
        self.resolve()

    def _date(self, mark: Mark) -> None:
        before = self._before
        apart = before.event.elapsed_time(mark.event)
        reached = cast(int, before.reached) + round(apart * 1e6)
        mark.reached = min(max(reached, mark.recorded), self._clock())
        self._before = mark
        self._free.append(before.event)


@dataclass(slots=True)
class Span:
    """A phase between two marks."""

    name: str
    mode: str
    step: int
    begin: Mark
    end: Mark


class DeviceSpans:
    """Phases on a device, in the order they were recorded, given out once their times are known."""

    def __init__(self, clock: DeviceClock) -> None:
        self.clock = clock
        self._spans: deque[Span] = deque()

    def add(self, name: str, mode: str, step: int, begin: Mark | None, end: Mark | None) -> None:
        """Remember a phase; without both marks it is forgotten."""
        if begin is not None and end is not None:
            self._spans.append(Span(name, mode, step, begin, end))

    def take(self, *, wait: bool = False) -> Iterator[tuple[Span, int, int]]:
        """Phases that the device is done with, with begin and end in host nanoseconds."""
        if wait:
            self.clock.finish()
        else:
            self.clock.resolve()
        while self._spans:
            begin, end = self._spans[0].begin.reached, self._spans[0].end.reached
            if begin is None or end is None:
                return
            yield self._spans.popleft(), begin, max(begin, end)


def cuda_spans(device: "torch.device", clock: Callable[[], int]) -> DeviceSpans | None:
    """Measures phases on a CUDA device; None where the network is elsewhere."""
    if device.type != "cuda":
        return None
    import torch

    def make() -> DeviceEvent:
        return cast(DeviceEvent, torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]

    return DeviceSpans(DeviceClock(make, clock))
