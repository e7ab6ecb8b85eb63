"""Writes the report of a fit job: `fit.json` and the chart `fit.png`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from container.files.json_files import replace_text, to_json
from container.fit.budget import TimeBudget
from container.fit.state import FitState

FILE = "fit.json"


def described(state: FitState, budget: TimeBudget) -> dict[str, Any]:
    """The leaderboard, the accuracy over time, the choices and the advice, as JSON values."""
    board = state.board
    return {
        "minutes": budget.seconds / 60,
        "used_minutes": round(budget.elapsed / 60, 3),
        "chosen": board.chosen.name,
        "leaderboard": [
            entry.to_json() | {"chosen": entry is board.chosen} for entry in board.ranked
        ],
        "by_minute": board.best_by_minute(),
        "points": state.points,
        "choices": [{"what": each.what, "why": each.why} for each in state.choices],
        "rounds": [asdict(each) for each in state.rounds],
        **state.learning,
    }


def write_fit(state: FitState, budget: TimeBudget, folder: Path) -> None:
    """Write both files to a folder."""
    from container.fit.report.pictures import draw_fit

    found = described(state, budget)
    draw_fit(found, folder)
    replace_text(folder / FILE, to_json(found, indent=1) + "\n")
