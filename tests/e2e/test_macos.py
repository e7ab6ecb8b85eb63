"""The demo's commands on a system without the features that only Linux has.

The home is behind a symlink, as /tmp is on macOS, and has a space in its name, as the local
SageMaker's default home on macOS has.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MACOS = Path(__file__).parent / "macos"
NETWORK = ("-p", "arch=shufflenet_v2_x0_5", "-p", "weights=none", "-p", "epochs=1")

Berth = Callable[..., str]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "private tmp").mkdir()
    (tmp_path / "tmp").symlink_to("private tmp")
    return os.environ | {
        "PYTHONPATH": str(MACOS),
        "BERTH_HOME": str(tmp_path / "tmp" / "Application Support"),
        "BERTH_WHERE": "local",
        "BERTH_EXECUTOR": "process",
        "BERTH_PORT": "0",
        "TMPDIR": str(tmp_path / "tmp"),
    }


@pytest.fixture
def berth(environment: dict[str, str], tmp_path: Path) -> Iterator[Berth]:
    """Runs a `berth` command and returns its output."""

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "local.cli", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        log = tmp_path / "tmp" / "Application Support" / "server.log"
        said = done.stdout + done.stderr + (log.read_text() if log.exists() else "")
        assert done.returncode == 0, said[-6000:]
        return done.stdout

    yield run
    run("down")


def test_the_demos_commands_run_without_linux_features(
    berth: Berth, stripes: Path, tmp_path: Path
) -> None:
    berth("up")
    berth("data", "upload", str(stripes), "--bucket", "stripes", "--prefix", "stripes")
    data = ("s3://stripes/stripes", "--bucket", "stripes")
    searched = ("--range", "learning_rate=0.001:0.01:log", "--jobs", "1", "--parallel", "1")
    small = ("-p", "image_size=32", "-p", "batch_size=16")
    berth("tune", *data, "--name", "find", *searched, *NETWORK, *small)
    # Worker processes decode images above 64 pixels while the profiler samples the machine.
    large = ("-p", "image_size=72", "-p", "batch_size=16", "-p", "workers=1")
    left = ("--profile", "--output-dir", str(tmp_path / "tmp" / "left"))
    berth("train", *data, "--name", "job", *NETWORK, *large, *left)
    (report,) = (tmp_path / "tmp" / "left").rglob("evaluation.json")
    assert json.loads(report.read_text())["images"] == 16
    (page,) = (tmp_path / "tmp" / "left").rglob("profiler-report.html")
    assert "CPU" in page.read_text()
    berth("deploy", "asked", "--job", "job")
    answers = berth("invoke", "asked", str(stripes / "validation"), "--json").splitlines()
    assert len(answers) == 16
    assert {json.loads(answer)["label"] for answer in answers} <= {"across", "down"}


def test_linux_features_are_hidden(environment: dict[str, str]) -> None:
    """The test above is only meaningful if these features are hidden."""
    look = (
        "import multiprocessing, os, select, sys; from pathlib import Path; import psutil;"
        "from container.images import budget; from serve import gunicorn_conf;"
        "print(hasattr(os, 'sched_getaffinity'), hasattr(select, 'epoll'), Path('/proc').exists(),"
        " os.access('/dev/shm', os.W_OK), multiprocessing.get_start_method(),"
        " gunicorn_conf.worker_tmp_dir, psutil.Process().pid == os.getpid())"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], env=environment, capture_output=True, text=True, timeout=120
    )
    found = done.stdout.split()
    hidden = ["False"] * 4
    assert found == [*hidden, "spawn", environment["TMPDIR"], "True"], done.stderr
