"""Chrome traces, as far as they can be read: arrays of events, often without their end."""

import json
import re
from typing import Any

_NEXT = re.compile(r"[\s,\[\]]*")
ATTEMPTS = 1000
"""How often reading starts anew after something that is no event; then the rest is left."""


def read_trace(text: str) -> tuple[list[dict[str, Any]], str | None]:
    """The events of a trace, and what was wrong with it, if anything.

    A trace is an array, or an object with one under `traceEvents`.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _salvage(text)
    if isinstance(found, dict):
        found = found.get("traceEvents")
    if not isinstance(found, list):
        return [], "holds no events"
    events = [event for event in found if isinstance(event, dict)]
    lost = len(found) - len(events)
    return events, f"{lost:,} of its entries are no events and were left out" if lost else None


def _salvage(text: str) -> tuple[list[dict[str, Any]], str | None]:
    decoder = json.JSONDecoder()
    events: list[dict[str, Any]] = []
    position, attempts = 0, 0
    while attempts < ATTEMPTS:
        position = _skip(text, position)
        if position >= len(text):
            break
        try:
            event, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            attempts += 1
            position = text.find("{", position + 1)
            if position < 0:
                break
            continue
        if isinstance(event, dict) and "ph" in event:
            events.append(event)
    if not events:
        return [], "holds no events" if text.strip() else "is empty"
    if attempts == 0:
        return events, None  # smdebug's own files are without the closing bracket until they rotate
    return events, f"cut short or damaged; the {len(events):,} events that could be read are used"


def _skip(text: str, position: int) -> int:
    found = _NEXT.match(text, position)
    return found.end() if found else position
