"""Figures as people read them: a unit, and no more digits than mean something."""

import math
from datetime import UTC, datetime

MISSING = "–"


def seconds(value: float | None) -> str:
    """A span of time: 850 µs, 41.2 ms, 3.40 s, 5 min 12 s, 2 h 05 min."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value < 0:
        return f"−{seconds(-value)}"
    if value == 0:
        return "0 s"
    if value < 0.9995e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{_three(value * 1e3)} ms"
    if value < 59.95:
        return f"{_three(value)} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(value / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60:02} h"


def percent(share: float | None) -> str:
    """A share of 1 as a percentage: 0.4 %, 31 %; 99.6 % is not rounded up to all."""
    if share is None or not math.isfinite(share):
        return MISSING
    value = 100 * share
    if value == 0:
        return "0 %"
    if abs(value) < 0.05:
        return "< 0.1 %" if value > 0 else "> −0.1 %"
    if abs(value) < 9.95 or 99 < abs(value) < 100:
        return f"{min(value, 99.9) if value < 100 else value:.1f} %"
    return f"{value:.0f} %"


def points(value: float | None) -> str:
    """A percentage that was measured as one, 0 to 100."""
    return percent(None if value is None else value / 100)


def count(value: float | None) -> str:
    """A whole number with thin thousands: 50 000."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{round(value):,}".replace(",", "\u202f")


def data(value: float | None, per_second: bool = False) -> str:
    """Bytes: 812 B, 4.20 MB."""
    if value is None or not math.isfinite(value):
        return MISSING
    amount, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(amount) < 999.5:
            break
        amount, unit = amount / 1000, larger
    text = f"{amount:.0f}" if unit == "B" else _three(amount)
    return f"{text} {unit}{'/s' if per_second else ''}"


def number(value: float | None) -> str:
    """A plain number with four digits that count."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{int(value)}"
    return f"{value:.4g}"


def plain(value: object) -> str:
    """A parameter's value as users write it: none, true, 0.5, text."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def factor(value: float) -> str:
    """How many times faster: 1.45×."""
    return f"{value:.2f}×" if value < 9.995 else f"{value:.0f}×"


def moment(unix: float | None) -> str:
    """A date and time of day, UTC."""
    if unix is None or not math.isfinite(unix):
        return MISSING
    try:
        return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):
        return MISSING


def elapsed(value: float | None) -> str:
    """Time since the job started, as a clock: 04:07, 1:04:07."""
    if value is None or not math.isfinite(value):
        return MISSING
    whole = math.floor(abs(value))
    hours, rest = divmod(whole, 3600)
    clock = f"{rest // 60:02}:{rest % 60:02}"
    return f"{'−' if value < 0 else ''}{f'{hours}:' if hours else ''}{clock}"


def _three(value: float) -> str:
    """Three digits that count, zeros kept: 3.40, 41.2, 412."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
