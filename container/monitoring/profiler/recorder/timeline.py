"""Records the phases of training steps as framework events in SageMaker's format.

The loop only appends to a queue, which a thread writes to `event_file` once per second. Time
between the phases of a step belongs to none of them.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from container.errors import first_line
from container.monitoring.profiler.phases import DEVICE, PHASES, STEPS
from container.monitoring.profiler.recorder.device import DeviceSpans, Mark, cuda_spans
from container.monitoring.profiler.recorder.event_file import (
    TimelineEvent,
    TimelineFile,
    recover,
)
from container.monitoring.profiler.settings import ROTATE_BYTES, ROTATE_SECONDS

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

FLUSH_SECONDS = 1.0
"""Seconds between writes; a killed job can lose this much."""
MOST_EVENTS = 65_536
"""Events that wait to be written, some 10 MB; should the disk hang, the oldest are given up."""
WRITTEN_AT_ONCE = 4096
"""Events a write; their text takes ten times their own memory while it is made."""
CLOSE_SECONDS = 30.0
"""How long closing waits for a write under way."""
ON_DEVICE = frozenset({"copy", "augment", "forward", "backward", "optimizer", "metrics", "debug"})
"""Phases that give a GPU work."""


class Timeline:
    """Records steps and their phases; used from one thread.

    Args:
        root: the profiler's folder, which several ranks share.
        host: `algo-N`.
        rank: this process's rank.
        device: where the network is; on a GPU its phases are measured there as well.
        rotate_bytes, rotate_seconds: when a file ends and the next begins.
        clock, wall: nanoseconds that never jump, and those since 1970.
        spans: measures phases on the device; for CUDA by default.
        say: where messages go.
    """

    def __init__(
        self,
        root: Path,
        host: str,
        *,
        rank: int,
        device: "torch.device",
        rotate_bytes: int = ROTATE_BYTES,
        rotate_seconds: float = ROTATE_SECONDS,
        clock: Callable[[], int] = time.perf_counter_ns,
        wall: Callable[[], int] = time.time_ns,
        spans: DeviceSpans | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._clock, self._say = clock, say
        self._spans = spans or cuda_spans(device, clock)
        self._device = f"{DEVICE}{device.index or 0}"
        self._events: deque[TimelineEvent] = deque(maxlen=MOST_EVENTS)
        self._lost = False
        self._scope = _Scope("other", 0, 0)
        self._phases: dict[str, _Phase] = {}
        with contextlib.suppress(OSError):
            recover(root, host)
        self._file: TimelineFile | None = TimelineFile(
            root,
            host,
            rank=rank,
            rotate_bytes=rotate_bytes,
            rotate_seconds=rotate_seconds,
            clock=clock,
            wall=wall,
        )
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._keep_writing, name="timeline", daemon=True)
        self._writer.start()

    def batches(
        self, mode: Literal["train", "eval"], batches: Iterable[T], first_step: int
    ) -> Iterator[T]:
        """The batches; a step runs from asking for its batch to asking for the next.

        Waiting for the batch is the step's phase `data`. A step that is left early, by a break or
        an exception, ends there.
        """
        source, end = iter(batches), object()
        outer, number = self._scope, first_step
        requested = self._clock()
        while (batch := next(source, end)) is not end:
            scope = self._scope = _Scope(mode, number, requested)
            self._emit("data", requested, self._clock())
            try:
                yield batch  # type: ignore[misc]
            finally:
                requested = self._clock()
                self._end_step(scope, outer, requested)
            number += 1

    def phase(self, name: str) -> AbstractContextManager[object]:
        """A part of the step under way, or of the job outside of steps; names in `phases.PHASES`.

        Phases never overlap: one within another interrupts it, unless a step lies between them.
        """
        phase = self._phases.get(name)
        if phase is None:
            phase = self._phases[name] = _Phase(self, name)
        return phase

    def close(self) -> None:
        """Write all pending events and rename the file to its final name. Idempotent."""
        if self._closing.is_set():
            return
        if self._scope.mode != "other":
            self._end_step(self._scope, _Scope("other", self._scope.step, 0), self._clock())
        self._closing.set()
        self._writer.join(CLOSE_SECONDS)
        if self._writer.is_alive():
            self._say(
                "the profiler's timeline is not complete: the disk or the GPU does not answer"
            )

    def enter(self, name: str) -> None:
        """Begin a phase."""
        now, mark = self._clock(), self._mark()
        stack = self._scope.stack
        if stack:
            self._emit_frame(stack[-1], now, mark)
        stack.append(_Frame(name, now, mark))

    def leave(self) -> None:
        """End the innermost phase."""
        stack = self._scope.stack
        if not stack:
            return
        frame = stack.pop()
        now, mark = self._clock(), self._mark()
        self._emit_frame(frame, now, mark)
        if stack:
            stack[-1].start, stack[-1].mark = now, mark

    def _mark(self) -> Mark | None:
        spans = self._spans
        return None if spans is None else spans.clock.mark()

    def _end_step(self, scope: "_Scope", outer: "_Scope", now: int) -> None:
        if self._scope is not scope:
            return  # ended by `close`
        while scope.stack:
            self.leave()
        name = STEPS[scope.mode]
        self._events.append(TimelineEvent(name, name, scope.mode, scope.step, scope.start, now))
        self._scope = outer
        if outer.mode == "other" and scope.mode == "train":
            outer.step = scope.step

    def _emit_frame(self, frame: "_Frame", now: int, mark: Mark | None) -> None:
        self._emit(frame.name, frame.start, now)
        spans, scope = self._spans, self._scope
        if spans is not None and frame.name in ON_DEVICE:
            spans.add(frame.name, scope.mode, scope.step, frame.mark, mark)

    def _emit(self, phase: str, start: int, end: int) -> None:
        name = PHASES.get(phase, phase)
        self._events.append(
            TimelineEvent(name, name, self._scope.mode, self._scope.step, start, end)
        )

    def _keep_writing(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self._flush()
        self._flush(last=True)

    def _flush(self, *, last: bool = False) -> None:
        """Write what has been recorded; on a disk that is full, say so and record on for nobody."""
        if len(self._events) == MOST_EVENTS and not self._lost:
            self._lost = True
            self._say("the profiler's timeline has gaps: the disk is too slow for its events")
        if self._file is None:
            self._events.clear()
            return
        try:
            for waiting in range(len(self._events), 0, -WRITTEN_AT_ONCE):
                count = min(waiting, WRITTEN_AT_ONCE)
                self._file.write([self._events.popleft() for _ in range(count)])
            self._file.write(self._device_events(wait=last))
            if last:
                self._file.close()
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
            self._say(f"the profiler's timeline ends here: {error}")

    def _device_events(self, *, wait: bool) -> list[TimelineEvent]:
        if self._spans is None:
            return []
        try:
            return [
                TimelineEvent(self._device, PHASES[span.name], span.mode, span.step, begin, end)
                for span, begin, end in self._spans.take(wait=wait)
            ]
        except RuntimeError as error:
            self._spans = None
            self._say(f"the profiler stops timing phases on the GPU: {first_line(error)}")
            return []


class _Scope:
    """A step, or the time outside of steps, with its open phases."""

    __slots__ = ("mode", "stack", "start", "step")

    def __init__(self, mode: str, step: int, start: int) -> None:
        self.mode, self.step, self.start = mode, step, start
        self.stack: list[_Frame] = []


class _Frame:
    """An open phase since it began, or since the last phase within it ended."""

    __slots__ = ("mark", "name", "start")

    def __init__(self, name: str, start: int, mark: Mark | None) -> None:
        self.name, self.start, self.mark = name, start, mark


class _Phase:
    """The context of one phase; can be entered any number of times, also within itself."""

    __slots__ = ("_name", "_timeline")

    def __init__(self, timeline: Timeline, name: str) -> None:
        self._timeline, self._name = timeline, name

    def __enter__(self) -> None:
        self._timeline.enter(self._name)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._timeline.leave()
