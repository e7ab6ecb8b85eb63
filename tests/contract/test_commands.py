"""The commands, as a user types them, against a SageMaker that really runs a (toy) image.

They are told `--where aws` and an endpoint: nothing in them may need to know who answers.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from local.emulator.executors.process import Commands

SERVER = """
import json, sys, time
from pathlib import Path
from local.emulator.executors.process import ProcessExecutor
from local.emulator.home import Home
from local.emulator.server import Server

home = Home.find(Path(sys.argv[1]))
server = Server(home, executor=ProcessExecutor(home, json.loads(sys.argv[2])))
server.start()
print(server.url, flush=True)
sys.stdin.read()
server.stop()
"""
ACCOUNT = "123456789012"
DATA = f"s3://berth-eu-west-1-{ACCOUNT}/data/pets/"
SCORE = ("--metric", r"toy:score=toy:score=([-0-9.]+);", "--objective", "toy:score")


@pytest.fixture(scope="module")
def environment(
    toy_commands: "Commands", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """What points the commands at a server that runs the toy."""
    root = tmp_path_factory.mktemp("server")
    words = {image: {verb: list(a) for verb, a in v.items()} for image, v in toy_commands.items()}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "BERTH_"))}
    quiet = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(root / "home"), json.dumps(words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean | quiet | {"AWS_DEFAULT_REGION": "eu-west-1"},
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        yield (
            clean
            | quiet
            | {
                "AWS_ENDPOINT_URL": server.stdout.readline().strip(),
                "AWS_ACCESS_KEY_ID": "anyone",
                "AWS_SECRET_ACCESS_KEY": "anything",
                "AWS_DEFAULT_REGION": "eu-west-1",
                "BERTH_WHERE": "aws",
                "BERTH_ROLE": f"arn:aws:iam::{ACCOUNT}:role/berth",
            }
        )
        server.stdin.close()


@pytest.fixture
def berth(environment: dict[str, str], tmp_path: Path) -> "Berth":
    return Berth(environment, tmp_path)


class Berth:
    """Runs `berth` in a folder of its own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder

    def __call__(self, *words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", "local.cli", *words],
            cwd=self.folder,
            env=self.environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done


def upload(berth: Berth) -> None:
    for name in ("cat", "dog"):
        folder = berth.folder / "pets" / name
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(b"x")
    berth("data", "upload", "pets", "--no-lint")


def test_search_train_look_and_clean_up(berth: Berth) -> None:
    upload(berth)
    toy = ("--image-uri", "toy:latest")
    done = berth(
        *("tune", DATA, *toy, *SCORE, "--name", "search", "--jobs", "4", "--seed", "1"),
        *("-r", "learning_rate=0.001:1:log", "-r", "flavour=a,b", "-p", "seconds=0.05"),
    )
    assert done.stdout == "search\n"
    best = json.loads((berth.folder / "search/best.json").read_text())
    assert best["objective"]["name"] == "toy:score"
    assert best["hyperparameters"].keys() == {"learning_rate", "flavour", "seconds"}
    assert "Plotly.newPlot" in (berth.folder / "search/tuning.html").read_text()

    done = berth("train", DATA, *toy, "--from-tuning", "search", "-p", "epochs=2", "--name", "best")
    assert "toy: input train/cat/1.jpg 1 bytes" in done.stdout
    assert "toy: epoch 2" in done.stdout
    assert done.stdout.splitlines()[-1] == "best"
    assert "Training" in done.stderr
    result = berth.folder / "best/output/data/result.txt"
    assert result.read_text() == "algo-1 done\n"
    assert (berth.folder / "best/model.tar.gz").stat().st_size > 0

    assert berth("logs", "best").stdout.splitlines()[-1] == "toy: done"
    assert berth("report", "best", "--no-open").stdout.strip().endswith("best/index.html")
    listed = json.loads(berth("jobs", "--json").stdout)
    assert {each["name"] for each in listed} >= {"search", "best"}
    refused = berth("delete", "best", status=1)
    assert refused.stderr.startswith("berth: best: a training job; SageMaker keeps jobs")


def test_a_failure_in_one_line(berth: Berth) -> None:
    upload(berth)
    done = berth(
        *("train", DATA, "--image-uri", "toy:latest", "--name", "unlucky"),
        *("-p", "fail=no luck"),
        status=1,
    )
    last = done.stderr.splitlines()[-1]
    assert last == "berth: unlucky: Failed: AlgorithmError: no luck, exit code: 1"
    again = berth("train", DATA, "--image-uri", "toy:latest", "--name", "unlucky", status=1)
    assert again.stderr.startswith("berth: CreateTrainingJob: ResourceInUse: ")
    assert len(again.stderr.splitlines()) == 1


def test_a_running_job_is_stopped(berth: Berth) -> None:
    upload(berth)
    berth(
        *("train", DATA, "--image-uri", "toy:latest", "--name", "long", "--no-wait"),
        *("-p", "seconds=60"),
    )
    assert berth("stop", "long").stdout == "training job long: stopping\n"
    berth("logs", "-f", "long")
    [job] = [each for each in json.loads(berth("jobs", "--json").stdout) if each["name"] == "long"]
    assert job["status"] == "Stopped"
