import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["decode", "geometry", "jpeg", "crop", "index", "splits", "lint", "sources"]
)
def test_torch_is_not_needed(module):
    """The server imports the first of these and must start without torch."""
    code = f"import sys, container.data.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
