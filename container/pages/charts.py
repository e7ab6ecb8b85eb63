"""Charts as Plotly's JSON, gathered while a page is made and drawn by `charts.js` in the page.

Colours are names of the style sheet's variables (`--blue`): the script puts in the values of the
light, the dark or the printed scheme.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

SERIES = 8
"""Colours the style sheet has for things without one of their own: GPUs, ranks."""


@dataclass(frozen=True)
class Chart:
    """A chart's place in the page.

    Attributes:
        anchor: its id.
        caption: what it shows, as text.
        height: pixels.
    """

    anchor: str
    caption: str
    height: int


class Charts:
    """The charts of one page.

    Attributes:
        specs: by the chart's anchor: Plotly's data and layout, and the moments marked in it.
    """

    def __init__(self) -> None:
        self.specs: dict[str, dict[str, Any]] = {}

    def add(
        self,
        anchor: str,
        caption: str,
        traces: Sequence[Mapping[str, Any]],
        layout: Mapping[str, Any],
        *,
        height: int = 260,
        moments: Sequence[Mapping[str, Any]] = (),
    ) -> Chart:
        """Add a chart.

        Args:
            anchor: its id; the n-th of the same name gets a number.
            caption: what it shows, as text.
            traces: Plotly's traces.
            layout: Plotly's layout, completed by the script's own.
            height: pixels.
            moments: marks across the chart: x, label, and the anchor that shows each.
        """
        name, count = anchor, 1
        while name in self.specs:
            count += 1
            name = f"{anchor}-{count}"
        self.specs[name] = {"data": list(traces), "layout": dict(layout), "moments": list(moments)}
        return Chart(name, caption, height)


def label(value: object) -> str:
    """A name as Plotly shows it: Plotly reads tags in its texts."""
    return escape(str(value), quote=False)


def scatter(
    x: Sequence[Any], y: Sequence[Any], name: str, colour: str, **more: Any
) -> dict[str, Any]:
    """A line."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "name": label(name),
        "line": {"color": colour, "width": 1.6},
        **more,
    }


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}, **more}


def colour(kind: str, name: str) -> str:
    """The style sheet's variable for a phase or a metric: `--phase-data`, `--metric-gpu-memory`.

    The page shows names that the style sheet does not have in gray.
    """
    return f"--{kind}-{re.sub('[^a-z0-9]+', '-', name.lower())}"


def series_colour(place: int) -> str:
    """The style sheet's variable for the n-th of several, counted from 0."""
    return f"--series-{place % SERIES + 1}"


PERCENT = {"range": [0, 102], "ticksuffix": " %", "tick0": 0, "dtick": 25}
"""An axis of percentages."""
