"""The whole HTML document: one file, nothing loaded from anywhere."""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from container.monitoring.profiler.report.markup import Html, join, tag, text
from container.monitoring.profiler.report.script import SCRIPT
from container.monitoring.profiler.report.style import STYLE


def document(title: str, body: Html, charts: Mapping[str, Any]) -> str:
    """A page that draws its charts.

    Args:
        title: plain text.
        body: what it shows.
        charts: `Charts.specs`.
    """
    parts: list[object] = [
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy(bool(charts))}">'),
        tag("title", title),
        Html(f"<style>{STYLE}</style>"),
    ]
    scripts: list[object] = []
    if charts:
        scripts = [
            Html("<noscript><style>.chart { display: none }</style></noscript>"),
            Html(f'<script type="application/json" id="charts">{in_script(charts)}</script>'),
            Html(f'<script type="text/plain" id="plotly">{_packed()}</script>'),
            Html(f"<script>{SCRIPT}</script>"),
        ]
    head = tag("head", *parts)
    busy = tag("body", body, *scripts, aria_busy="true" if charts else "false")
    return f'<!doctype html>\n<html lang="en">{head}\n{busy}</html>\n'


def in_script(value: Any) -> str:
    """JSON that no text in it can end the script element of."""
    found = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        found = found.replace(sign, f"\\u{ord(sign):04x}")
    return found


def anchor(*parts: object) -> str:
    """An id out of texts: letters, digits and dashes, unique for unlike texts."""
    raw = "-".join(map(str, parts))
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in raw)
    if plain == raw:
        return raw
    return f"{plain[:60]}-{hashlib.sha256(raw.encode()).hexdigest()[:8]}"


def link(target: str, *words: object) -> Html:
    """A link within the page."""
    return tag("a", *words, href=f"#{target}")


def listing(items: list[object], class_: str | None = None) -> Html:
    """An unordered list."""
    return tag("ul", join(tag("li", text(item)) for item in items), class_=class_)


def _policy(scripts: bool) -> str:
    """Only these two scripts run, and nothing is fetched."""
    allowed = "'none'"
    if scripts:
        allowed = " ".join(f"'{_hash(source)}'" for source in (SCRIPT, _plotly()))
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    )


def _hash(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


@cache
def _packed() -> str:
    return base64.b64encode(gzip.compress(_plotly().encode(), 9, mtime=0)).decode()
