"""Tests of the virtual environments for clients."""

import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.environments import EnvironmentMissing, environment


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    """A requirements file of one package, installed from a local wheel."""
    path = tmp_path / "alone-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("alone.py", "")
        folder = "alone-1.dist-info"
        wheel.writestr(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: alone\nVersion: 1\n")
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{folder}/RECORD", "")
    file = tmp_path / "alone.txt"
    file.write_text(f"{path}\n")
    return file


def test_concurrent_callers_create_an_environment_once(requirements: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as both:
        made = [both.submit(environment, requirements, tmp_path) for _ in range(2)]
        (python,) = {each.result() for each in made}
    subprocess.run([str(python), "-c", "import alone"], check=True)
    Path(requirements.read_text().strip()).unlink()
    assert environment(requirements, tmp_path) == python


def test_a_package_that_cannot_be_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    requirements = tmp_path / "nowhere.txt"
    requirements.write_text("berth-has-no-such-package==1\n")
    with pytest.raises(EnvironmentMissing, match=r"nowhere\.txt.*berth-has-no-such-package"):
        environment(requirements, tmp_path)
