"""Times phases on a GPU, which runs asynchronously to the host.

CUDA events are recorded on the current stream where phases begin and end, and another thread
queries later whether the GPU has reached them; nothing waits. The times between events are added up
from a first event with a known host time, and limited by two bounds: an event happens after it is
recorded and before it is found to have happened.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import torch

MOST_MARKS = 8192
"""Most pending events; if there are more, nothing queries them, and no more are recorded."""


class DeviceEvent(Protocol):
    """The methods of `torch.cuda.Event` that are used."""

    def record(self) -> Any:
        """Record it on the current stream."""

    def query(self) -> bool:
        """Whether the device has reached it."""

    def synchronize(self) -> Any:
        """Wait until the device has reached it."""

    def elapsed_time(self, end: Any) -> float:
        """Milliseconds from this event to another, once both were reached."""


@dataclass(slots=True)
class Mark:
    """A moment on the device.

    Attributes:
        recorded: host nanoseconds just before it was recorded on the stream.
        reached: host nanoseconds at which the device reached it; None until known.
    """

    event: DeviceEvent
    recorded: int
    reached: int | None = None


class DeviceClock:
    """Marks moments on a device and determines their times later.

    Args:
        make: creates an event that measures time.
        clock: returns host nanoseconds.
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
        """Mark this moment; None if too many are pending or the device has failed.

        The training loop reports a failure, as its own calls fail too.
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
        """Determine the times of marks that the device has reached, without waiting."""
        while self._marks and self._marks[0].event.query():
            self._date(self._marks.popleft())

    def finish(self) -> None:
        """Determine the times of all marks, waiting for the device."""
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
    """Phases on a device, returned in order once their times are known."""

    def __init__(self, clock: DeviceClock) -> None:
        self.clock = clock
        self._spans: deque[Span] = deque()

    def add(self, name: str, mode: str, step: int, begin: Mark | None, end: Mark | None) -> None:
        """Add a phase; ignored without both marks."""
        if begin is not None and end is not None:
            self._spans.append(Span(name, mode, step, begin, end))

    def take(self, *, wait: bool = False) -> Iterator[tuple[Span, int, int]]:
        """Yield phases that the device has finished, with begin and end in host nanoseconds."""
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
    """Times phases on a CUDA device; None for other devices."""
    if device.type != "cuda":
        return None
    import torch

    def make() -> DeviceEvent:
        return cast(DeviceEvent, torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]

    return DeviceSpans(DeviceClock(make, clock))
