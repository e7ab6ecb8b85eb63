"""The context of a report's sections: the metrics, the page's charts and the data of
report.json."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Any, NamedTuple

from container.monitoring.profiler.metrics import ProfileMetrics
from container.monitoring.profiler.report.series import Clock
from container.monitoring.profiler.units import elapsed
from container.monitoring.profiler.verdict import Verdict, verdict
from container.pages.charts import Charts, label

MOMENTS = 8
"""Moments of a rule that are marked; all of them are in its file."""


class Share(NamedTuple):
    """A part of a bar: name, share of the whole (0 to 1), colour, and a further figure."""

    name: str
    share: float
    colour: str
    figure: str = ""


class Link(NamedTuple):
    """A link within the page: the id it leads to, and its text."""

    target: str
    text: str


@dataclass
class ReportContext:
    """The context of one report.

    Attributes:
        metrics: the recording's metrics, with the rules' outcomes.
        charts: collects the charts.
        data: collects the data of report.json.
    """

    metrics: ProfileMetrics
    charts: Charts = field(default_factory=Charts)
    data: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def verdict(self) -> Verdict:
        """The job's verdict."""
        return verdict(self.metrics.recording, self.metrics.outcomes, self.metrics)

    @cached_property
    def clock(self) -> Clock | None:
        """The time axis; None where nothing has a time."""
        start, end = self.metrics.job["started"], self.metrics.job["ended"]
        return None if start is None or end is None else Clock(start, end)

    @cached_property
    def moments(self) -> list[dict[str, Any]]:
        """The first moments each rule fired at: rule, kind, time (unix seconds) and step, either of
        which may be None, and the anchor of the time."""
        return [
            {
                "rule": row["name"],
                "kind": row["kind"],
                "time": time,
                "step": step,
                "anchor": anchor("moment", row["kind"], row["name"], place),
            }
            for row in self.metrics.rules
            if row["triggered"]
            for place, (time, step) in enumerate(zip_longest(row["moments"], row["steps"]), 1)
            if place <= MOMENTS
        ]

    def marks(self, *rules: str) -> list[dict[str, Any]]:
        """The moments of these rules (of all for none) as marks on a time chart."""
        if self.clock is None:
            return []
        start, (_, unit) = self.clock.start, self.clock.unit
        return [
            {
                "x": round((each["time"] - start) / unit, 4),
                "label": label(f"{each['rule']} at {elapsed(each['time'] - start)}"),
                "anchor": each["anchor"],
            }
            for each in self.moments
            if each["time"] is not None
            and self.clock.start <= each["time"] <= self.clock.end
            and (not rules or each["rule"] in rules)
        ]

    def at(self, time: float) -> str:
        """A moment as time since the start."""
        return elapsed(time - self.clock.start) if self.clock else "–"

    def rule_links(self, names: Iterable[str]) -> list[Link]:
        """Links to these rules' entries."""
        kinds = {row["name"]: row["kind"] for row in self.metrics.rules}
        return [Link(anchor("rule", kinds.get(name, ""), name), name) for name in names]


def anchor(*parts: object) -> str:
    """An id out of texts: letters, digits and dashes, unique for unlike texts."""
    raw = "-".join(map(str, parts))
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in raw)
    if plain == raw:
        return raw
    return f"{plain[:60]}-{hashlib.sha256(raw.encode()).hexdigest()[:8]}"
