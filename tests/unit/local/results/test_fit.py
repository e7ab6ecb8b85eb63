import json
from pathlib import Path

import pytest

from local.errors import UserError
from local.results.fit import fit_lines, read_fit
from tests.unit.local.trained_job import FIT


def test_a_fit_report_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(FIT))
    report = read_fit(path)
    assert report.leaderboard[0].chosen
    assert report.leaderboard[0].interval == (0.88, 0.95)
    assert fit_lines(path)[0] == "probe resnet18 at 224 px, after 4.5 of 5 minutes"


def test_an_invalid_fit_report_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    path.write_text(json.dumps(FIT | {"minutes": "many"}))
    with pytest.raises(UserError, match=r"fit.json: not a fit report by berth: minutes"):
        read_fit(path)
    assert fit_lines(path)[0].startswith("unknown: ")
