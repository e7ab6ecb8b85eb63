"""Run a command against a given target."""

from typing import Any

import pytest
from typer.testing import CliRunner, Result

from local.cli import app


class Commands:
    """`run("train", …)` runs `berth train …` against the target, in the test's folder."""

    def __init__(self, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.target = target
        self.asked: list[dict[str, Any]] = []
        for name in ("BERTH_WHERE", "BERTH_ROLE", "BERTH_BUCKET", "BERTH_EXECUTOR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("local.commands.options.shared.connect", self._connect)

    def _connect(self, **options: Any) -> Any:
        self.asked.append(options)
        return self.target

    def run(self, *words: str, keys: str = "") -> Result:
        """Run the command; `output` has the text it printed on both streams."""
        return CliRunner().invoke(app, words, input=keys)
