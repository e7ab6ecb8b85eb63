"""The Jinja2 environment of the pages: the base template, its macros, style sheet and script."""

import base64
import gzip
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def environment(
    package: str, filters: Mapping[str, Callable[..., Any]] | None = None
) -> Environment:
    """An environment in which a package's templates can extend `base.html`.

    Every value is escaped. Plain text keeps a number and its percent sign on one line.

    Args:
        package: dotted name of the package whose folder `templates` is searched first.
        filters: further filters, by name.
    """
    loader = ChoiceLoader([PackageLoader(package), PackageLoader(__package__)])
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_with_fixed_percents,
    )
    made.policies["json.dumps_kwargs"] = {
        "separators": (",", ":"),
        "allow_nan": False,
        "ensure_ascii": False,
    }
    made.filters.update(filters or {})
    made.globals.update(
        stylesheet=_source("page.css"),
        script=_source("charts.js"),
        packed_plotly=_packed_plotly,
        security_policy=_security_policy,
    )
    return made


def _with_fixed_percents(value: Any) -> Any:
    return value.replace(" %", "\u00a0%") if type(value) is str else value


@cache
def _source(name: str) -> Markup:
    """The unescaped text of a style sheet or script."""
    text = files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  it is our own file


def _security_policy(scripts: bool) -> str:
    """A Content-Security-Policy that allows only the page's two scripts and no requests."""
    allowed = "'none'"
    if scripts:
        allowed = " ".join(f"'{_hash(source)}'" for source in (_source("charts.js"), _plotly()))
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
def _packed_plotly() -> str:
    """Plotly.js as base64 of gzip, a third of its size."""
    return base64.b64encode(gzip.compress(_plotly().encode(), 9, mtime=0)).decode()
