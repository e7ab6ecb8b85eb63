import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "images.decode",
        "images.geometry",
        "images.jpeg",
        "data.index",
        "data.splits",
        "data.lint",
        "data.sources",
    ],
)
def test_torch_is_not_imported(module: str) -> None:
    """The server imports the first of these and must start without torch."""
    code = f"import sys, container.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
