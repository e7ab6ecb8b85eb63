"""Run what only an NVIDIA GPU can show, and print a table of it: `make gpu`.

    python3 tests/gpu/run.py [WORDS FOR PYTEST ...]

It needs the Python that has PyTorch, and no installation of this project: its folder is enough.
Exit status 0 if nothing failed; what a piece of software or a second GPU is missing for is a row.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "PIL": "pillow",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pytest": "pytest",
    "safetensors": "safetensors",
    "simplejpeg": "simplejpeg",
    "tqdm": "tqdm",
    "matplotlib": "matplotlib",
}
"""Modules without which no job trains, and their packages. All others are optional."""


@dataclass
class Row:
    """One check: its title, `ok`, `failed` or `not run: needs …`, its seconds and figures."""

    title: str
    outcome: str
    seconds: float = 0.0
    figure: str = ""


class Rows:
    """A pytest plugin that makes a row of every test marked `gpu`."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._titles: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Remember each test's title."""
        for item in items:
            mark = item.get_closest_marker("gpu")
            if mark is not None:
                self._titles[item.nodeid] = str(mark.args[0])

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Take a test's outcome, and what it measured, from its reports."""
        title = self._titles.get(report.nodeid)
        if title is None:
            return
        row = self.rows.setdefault(report.nodeid, Row(title, "ok"))
        row.seconds += report.duration
        if report.skipped:
            row.outcome = f"not run: needs {_reason(report.longrepr)}"
        elif report.failed:
            row.outcome = "failed"
        row.figure = "; ".join(
            str(value) for name, value in report.user_properties if name == "figure"
        )


def _reason(skipped: Any) -> str:
    """The words after `Skipped: ` of a test that was skipped: file, line and reason."""
    return str(skipped[2]).removeprefix("Skipped: ")


def table(rows: list[Row]) -> str:
    """The rows as text, in columns."""
    heads = Row("check", "outcome", 0.0, "figures")
    widths = [
        max(len(getattr(row, name)) for row in [heads, *rows]) for name in ("title", "outcome")
    ]
    first, second = widths
    lines = [f"{heads.title:{first}}  {heads.outcome:{second}}  seconds  {heads.figure}"]
    for row in rows:
        line = f"{row.title:{first}}  {row.outcome:{second}}  {row.seconds:7.1f}  {row.figure}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def problem() -> str | None:
    """Why nothing can be run here, in one line; None if it can."""
    missing = [package for module, package in NEEDED.items() if not _is_installed(module)]
    if "torch" in missing:
        return f"{sys.executable} has no PyTorch; name a Python that has: make gpu PYTHON=…"
    import torch

    if not torch.cuda.is_available():
        return (
            f"found no NVIDIA GPU that PyTorch {torch.__version__} can use, expected one; "
            "nothing was run"
        )
    if missing:
        return f"{sys.executable} lacks {', '.join(missing)}: pip install {' '.join(missing)}"
    return None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module that was replaced by None
        return False


def main(words: list[str]) -> int:
    """Run the checks and print the table; gives the exit status."""
    line = problem()
    if line is not None:
        print(f"gpu: {line}", file=sys.stderr)
        return 1
    import pytest
    import torch

    os.environ["BERTH_GPU"] = "1"
    sys.path.insert(0, str(ROOT))
    plugin = Rows()
    here = str(HERE)
    given = ["-c", f"{here}/pytest.ini", "--rootdir", here, "--confcutdir", here, here, *words]
    status = int(pytest.main(given, plugins=[plugin]))
    names = ", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))
    print(f"\n{names}; PyTorch {torch.__version__}, CUDA {torch.version.cuda}\n")
    print(table(list(plugin.rows.values())), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
