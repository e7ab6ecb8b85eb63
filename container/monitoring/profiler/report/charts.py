"""Charts as Plotly's JSON, gathered while the page is written and drawn by the page itself.

Colours are names of the style sheet's variables (`--blue`): the page puts in the values of the
light, the dark or the printed scheme.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from container.monitoring.profiler.report.markup import Html, tag


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
    ) -> Html:
        """Keep a chart, and give its place in the page.

        Args:
            anchor: its id; the n-th of the same name gets a number.
            caption: what it shows, as text.
            traces: Plotly's traces.
            layout: Plotly's layout, completed by the page's own.
            height: pixels.
            moments: marks across the chart: x, label, and the anchor that shows each.
        """
        name, count = anchor, 1
        while name in self.specs:
            count += 1
            name = f"{anchor}-{count}"
        self.specs[name] = {"data": list(traces), "layout": dict(layout), "moments": list(moments)}
        return tag(
            "figure",
            tag("figcaption", caption),
            Html(
                f'<div class="plot" style="height:{height}px" role="img" '
                f'aria-label="{escape(caption)}"></div>'
            ),
            id=name,
            class_="chart",
        )


def label(value: object) -> str:
    """A name as Plotly shows it: it reads tags in its texts."""
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


PERCENT = {"range": [0, 102], "ticksuffix": " %", "tick0": 0, "dtick": 25}
"""An axis of percentages."""
