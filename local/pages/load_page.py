"""The report page of a load test: throughput against latency, in a self-contained HTML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from container.pages.charts import Chart, Charts, axis
from container.pages.environment import environment
from local.client.load import Level

PERCENTILES = (("median", 50, "--blue"), ("99th percentile", 99, "--orange"))


def page(endpoint: str, facts: Sequence[str], levels: Sequence[Level], knee: Level) -> str:
    """Render the page.

    Args:
        endpoint: the endpoint's name.
        facts: lines on the results.
        levels: the levels with a response, by rising concurrency.
        knee: the level at the knee.
    """
    charts = Charts()
    return (
        environment(__package__)
        .get_template("load.html")
        .render(
            endpoint=endpoint,
            facts=facts,
            curve=_curve(charts, levels, knee),
            header=[
                "concurrency",
                "requests/s",
                "median ms",
                "p90 ms",
                "p99 ms",
                "failed",
                "client",
            ],
            rows=[(_row(level), "best" if level is knee else "") for level in levels],
            charts=charts.specs,
        )
    )


def write_page(path: Path, text: str) -> None:
    """Write the page to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _row(level: Level) -> list[str]:
    return [
        str(level.concurrency),
        f"{level.rate:,.1f}",
        *(f"{1000 * level.percentile(percent):,.0f}" for percent in (50, 90, 99)),
        f"{level.error_share:.1%}",
        f"{level.client_cpu:.0%} of a core",
    ]


def _curve(charts: Charts, levels: Sequence[Level], knee: Level) -> Chart:
    """Latency over throughput, with a point for each concurrency."""
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines+markers+text" if percent == 50 else "lines+markers",
            "x": [level.rate for level in levels],
            "y": [1000 * level.percentile(percent) for level in levels],
            "text": [str(level.concurrency) for level in levels],
            "textposition": "top left",
            "name": name,
            "line": {"color": colour, "width": 1.6},
            "marker": {"color": colour, "size": [11 if level is knee else 6 for level in levels]},
        }
        for name, percent, colour in PERCENTILES
    ]
    layout = {
        "xaxis": axis("requests per second", rangemode="tozero"),
        "yaxis": axis("latency, ms", rangemode="tozero"),
        "hovermode": "closest",
    }
    caption = "Latency against throughput; each point is a number of concurrent requests"
    moment = {"x": knee.rate, "label": f"knee: {knee.concurrency} concurrent", "anchor": "curve"}
    return charts.add("curve", caption, traces, layout, height=420, moments=[moment])
