"""The few pieces of HTML the report is made of. Every text given to them is escaped here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from container.monitoring.profiler.units import percent


class Html(str):
    """Text that is HTML already; any other is escaped where it meets HTML."""

    __slots__ = ()


@dataclass(frozen=True)
class Share:
    """A part of a bar: name, share of the whole (0 to 1), colour, and a further figure."""

    name: str
    share: float
    colour: str
    figure: str = ""


def text(value: object) -> Html:
    """A text, or HTML, as HTML."""
    return value if isinstance(value, Html) else Html(escape(str(value)).replace(" %", "\u00a0%"))


def join(parts: Iterable[object]) -> Html:
    """Pieces one after another."""
    return Html("".join(text(part) for part in parts))


def tag(name: str, *inner: object, **attributes: str | None) -> Html:
    """An element; `class_` is class, `data_x` is data-x, None leaves an attribute out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{join(inner)}</{name}>")


def table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    words: int = 1,
    caption: str = "",
    ids: Sequence[str | None] = (),
) -> Html:
    """A table in a box of its own that scrolls; after the first `words` columns come figures.

    Args:
        ids: anchors of the rows, where they have any.
    """

    def cells(name: str, row: Sequence[object]) -> Html:
        return join(
            tag(name, cell, class_="num" if place >= words else None)
            for place, cell in enumerate(row)
        )

    lines = join(
        tag("tr", cells("td", row), id=ids[place] if place < len(ids) else None)
        for place, row in enumerate(rows)
    )
    head = tag("thead", tag("tr", cells("th", header)))
    title = tag("caption", caption) if caption else ""
    return tag("div", tag("table", title, head, tag("tbody", lines)), class_="scroll")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Names and values side by side."""
    return tag(
        "dl",
        join(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs),
        class_="facts",
    )


def bar(parts: Sequence[Share], label: str) -> Html:
    """A bar cut in parts of 100 %, its legend below."""
    shown = [part for part in parts if part.share > 0]
    blocks = join(
        Html(
            f'<span style="width:{100 * part.share:.3f}%;background:var({part.colour})" '
            f'title="{escape(part.name)}: {escape(percent(part.share))}"></span>'
        )
        for part in shown
    )
    said = ", ".join(f"{part.name} {percent(part.share)}" for part in shown)
    legend = join(
        tag(
            "li",
            Html(f'<i style="background:var({part.colour})"></i>'),
            tag("span", part.name, class_="name"),
            tag("b", percent(part.share)),
            tag("span", part.figure, class_="soft") if part.figure else "",
        )
        for part in shown
    )
    return join(
        [
            tag("div", blocks, class_="bar", role="img", aria_label=f"{label}: {said}"),
            tag("ul", legend, class_="legend"),
        ]
    )


def meter(share: float | None, colour: str = "--blue") -> Html:
    """A share as a small bar in a table's cell, with its figure."""
    if share is None:
        return text("–")
    width = 100 * min(max(share, 0.0), 1.0)
    return Html(
        f'<span class="meter"><i style="width:{width:.1f}%;background:var({colour})"></i></span>'
        f'<span class="of">{escape(percent(share))}</span>'
    )


def missing(what: str, why: str) -> Html:
    """In place of figures that are not there."""
    return tag("p", tag("b", what), " ", why, class_="missing")


def note(*words: object) -> Html:
    """A paragraph that explains."""
    return tag("p", *words, class_="note")
