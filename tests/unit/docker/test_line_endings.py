import shutil
import subprocess
from pathlib import Path

from tests.requirements import missing

ROOT = Path(__file__).resolve().parents[3]


def test_a_checkout_with_autocrlf_has_the_lines_that_linux_reads(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        missing("git is not installed")
    source, clone = tmp_path / "source", tmp_path / "clone"
    source.mkdir()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "core.autocrlf=true"]
    (source / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    files = ["docker/trusting", "docker/base-image.sh", "docker/Dockerfile", ".ci/run", "Makefile"]
    for name in files:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*git, "init", "-q"], cwd=source, check=True)
    subprocess.run([*git, "add", "."], cwd=source, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], cwd=source, check=True)
    subprocess.run([*git, "clone", "-q", str(source), str(clone)], check=True)
    for name in files:
        assert b"\r" not in (clone / name).read_bytes(), name
