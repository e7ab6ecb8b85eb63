"""What the HTML pages share: one self-contained document, and tables of plain text."""

from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --paper: #fff;
        --line: #e2e6ec; --best: #e9f7ec; --bad: #a4262c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #a3adba; --paper: #14181f; --line: #333b47;
          --best: #17341f; --bad: #ff8f8a; }
  .plotly-graph-div, img { background: #fff; border-radius: .4rem; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid var(--line);
         white-space: nowrap; }
tr.best { background: var(--best); } tr.failed { color: var(--bad); }
.failure { color: var(--bad); font-weight: 600; } .figures b { font-size: 1.4rem; }
.note { color: var(--soft); } .mono { font-family: ui-monospace, monospace; }
img { max-width: 100%; }
"""


def document(title: str, body: str) -> str:
    """A whole HTML document; `body` is HTML already."""
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def rows(header: list[str], cells: list[list[str]], classes: list[str] | None = None) -> str:
    """An HTML table of plain text."""
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    lines = []
    for position, row in enumerate(cells):
        mark = classes[position] if classes else ""
        inner = "".join(f"<td>{escape(text)}</td>" for text in row)
        lines.append(f"<tr class='{mark}'>{inner}</tr>" if mark else f"<tr>{inner}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
