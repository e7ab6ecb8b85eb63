import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from container.monitoring.profiler.reading.events import ATTEMPTS, read_trace

EVENTS = [{"ph": "X", "name": f"e{at}", "args": {"step_num": at, "s": "{"}} for at in range(6)]


@pytest.mark.parametrize("indent", [None, 1])
@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_all_events_before_a_truncation_are_read(indent: int | None, at: Any) -> None:
    parts = [json.dumps(event, indent=indent) for event in EVENTS]
    text = "[" + ",\n".join(parts) + "]"
    cut = text[: at % (len(text) + 1)]
    found, _ = read_trace(cut)
    whole = [count for count in range(7) if len("[" + ",\n".join(parts[:count])) <= len(cut)]
    assert found == EVENTS[: max(whole, default=0)]


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text: Any) -> None:
    found, problem = read_trace(text)
    assert found == [] or problem is None or problem


def test_reading_stops_at_endless_noise() -> None:
    noise = "{" * (ATTEMPTS + 10) + json.dumps(EVENTS[0])
    assert read_trace(noise) == ([], "holds no events")
