"""Charts as Plotly JSON, collected while a page is rendered and drawn by `charts.js` in the page.

Colours are names of the style sheet's variables (`--blue`), which the script replaces by the values
of the light, dark or print scheme.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

SERIES = 8
"""Number of colours in the style sheet for series such as GPUs and ranks."""


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
        specs: by anchor: Plotly's data and layout, and the marked moments.
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
            anchor: its id; duplicates get a number.
            caption: what it shows, as text.
            traces: Plotly's traces.
            layout: Plotly's layout, merged with the script's default.
            height: pixels.
            moments: vertical marks: x, label, and the anchor of each.
        """
        name, count = anchor, 1
        while name in self.specs:
            count += 1
            name = f"{anchor}-{count}"
        self.specs[name] = {"data": list(traces), "layout": dict(layout), "moments": list(moments)}
        return Chart(name, caption, height)


def label(value: object) -> str:
    """Escape a name for Plotly, which interprets tags in its texts."""
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

    Names that the style sheet lacks are shown in gray.
    """
    return f"--{kind}-{re.sub('[^a-z0-9]+', '-', name.lower())}"


def series_colour(place: int) -> str:
    """The style sheet's variable for the n-th series, from 0."""
    return f"--series-{place % SERIES + 1}"


PERCENT = {"range": [0, 102], "ticksuffix": " %", "tick0": 0, "dtick": 25}
"""An axis of percentages."""
