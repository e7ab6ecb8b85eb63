import base64
import hashlib
import re
from html import unescape
from pathlib import Path

import pytest
from jinja2 import Environment, UndefinedError

from container.pages.charts import Charts, axis, colour, label, scatter, series_colour
from container.pages.environment import environment

EVIL = "</script><script>alert(1)</script>"
TEMPLATES = Path(__file__).parents[4] / "container" / "pages" / "templates"


@pytest.fixture(scope="module")
def pages() -> Environment:
    return environment("local.pages")


def shown(pages: Environment, template: str, **values: object) -> str:
    return " ".join(pages.from_string(template).render(**values).split())


def test_values_are_escaped_and_a_percentage_stays_on_one_line(pages: Environment) -> None:
    assert (
        shown(pages, "{{ name }}", name=EVIL)
        == "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"
    )
    assert pages.from_string("{{ share }}").render(share="31 %") == "31\u00a0%"


def test_an_undefined_name_in_a_template_is_an_error(pages: Environment) -> None:
    with pytest.raises(UndefinedError, match="absent"):
        shown(pages, "{{ absent }}")


def test_a_table_takes_rows_or_a_block(pages: Environment) -> None:
    macros = '{% from "blocks.html" import row, table %}'
    plain = shown(pages, macros + "{{ table(['a', 'b'], [['<x>', 1]]) }}")
    assert "&lt;x&gt;" in plain
    assert re.search(r'<td class="num">1</td>', plain)
    called = shown(
        pages,
        macros + "{% call table(['a']) %}{{ row(['x'], id='here', class='best') }}{% endcall %}",
    )
    assert '<tr id="here" class="best">' in called


def test_a_page_without_charts_has_no_script(pages: Environment) -> None:
    text = pages.get_template("base.html").render(charts={})
    assert "<script" not in text
    assert "script-src 'none'" in unescape(text)
    assert 'aria-busy="false"' in text


def test_a_page_with_charts_runs_only_its_two_scripts(pages: Environment) -> None:
    charts = Charts()
    charts.add("one", "A line", [scatter([1], [2], EVIL, "--blue")], {"xaxis": axis(EVIL)})
    text = pages.get_template("base.html").render(charts=charts.specs)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    script = (TEMPLATES / "charts.js").read_bytes()
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    assert f"'sha256-{digest}'" in unescape(policy[1])
    assert f"<script>{script.decode()}</script>" in text
    assert EVIL not in text


def test_charts_with_the_same_name_are_numbered() -> None:
    charts = Charts()
    anchors = [charts.add("use", "Use", [], {}).anchor for _ in range(3)]
    assert anchors == ["use", "use-2", "use-3"] == list(charts.specs)


def test_every_colour_is_in_the_style_sheet() -> None:
    style = (TEMPLATES / "page.css").read_text()
    names = [colour("phase", "training loop"), colour("metric", "GPU memory")]
    names += [series_colour(place) for place in range(20)]
    for name in names:
        assert f"{name}:" in style, name
    assert colour("phase", '"><script>') == "--phase--script-"
    assert label("<b>") == "&lt;b&gt;"
