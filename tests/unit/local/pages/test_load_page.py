import json
import re

from local.client.load import Level
from local.pages.load_page import page


def test_every_level_is_in_the_chart_and_in_the_table() -> None:
    levels = [Level(1, 10.0, [0.05] * 200), Level(2, 10.0, [0.06] * 320 + [0.2] * 10)]
    text = page("a<b", ["knee: <i>2</i> at once"], levels, levels[1])
    assert "<h1>a&lt;b</h1>" in text
    assert "<i>" not in text
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text)
    assert found is not None
    (curve,) = json.loads(found[1]).values()
    median, high = curve["data"]
    assert median["x"] == high["x"] == [20.0, 33.0]
    assert median["y"] == [50.0, 60.0]
    assert high["y"] == [50.0, 200.0]
    assert median["text"] == ["1", "2"]
    assert curve["moments"][0]["x"] == 33.0
    rows = re.findall(r"<tr( class=\"best\")?>\s*<td[^>]*>(\d+)</td>", text)
    assert [(number, bool(best)) for best, number in rows] == [("1", False), ("2", True)]
