"""The commands, as a user types them, against a local SageMaker that runs the toy image.

They get `--where aws` and an endpoint URL, so they cannot depend on which SageMaker answers.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.emulator.credentials import credentials
from local.emulator.home import Home
from tests.shards import samples, write_shard

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
TOY = ("--image-uri", "toy:latest")
SCORE = ("--metric", r"toy:score=toy:score=([-0-9.]+);", "--objective", "toy:score")


@contextmanager
def serving(
    toy_commands: "Commands", home: Path
) -> "Iterator[tuple[subprocess.Popen[str], dict[str, str]]]":
    """A server that runs the toy image, and the environment with which commands use it."""
    words = {image: {verb: list(a) for verb, a in v.items()} for image, v in toy_commands.items()}
    words["servesonly"] = {"serve": words["toy"]["serve"]}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "BERTH_"))}
    quiet = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(home), json.dumps(words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean | quiet | {"AWS_DEFAULT_REGION": "eu-west-1"},
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        url = server.stdout.readline().strip()
        key = credentials(Home(home))
        yield (
            server,
            clean
            | quiet
            | {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": key.key_id,
                "AWS_SECRET_ACCESS_KEY": key.secret,
                "AWS_DEFAULT_REGION": "eu-west-1",
                "BERTH_WHERE": "aws",
                "BERTH_ROLE": f"arn:aws:iam::{ACCOUNT}:role/berth",
            },
        )
        server.stdin.close()


@pytest.fixture(scope="module")
def environment(
    toy_commands: "Commands", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment with which commands use a server that runs the toy image."""
    with serving(toy_commands, tmp_path_factory.mktemp("server") / "home") as (_, environment):
        yield environment


class Berth:
    """Runs `berth` in a folder, with the given environment."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "local.cli", *words],
            cwd=self.folder,
            env=self.environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        with self.start(*words) as process:
            stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == status, f"{words}\n{stdout}\n{stderr}"
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)

    def status(self, name: str) -> str:
        listed = json.loads(self("jobs", "--json").stdout)
        [found] = [each["status"] for each in listed if each["name"] == name]
        return str(found)


def upload(berth: Berth) -> None:
    for name in ("cat", "dog"):
        folder = berth.folder / "pets" / name
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(b"x")
    berth("data", "upload", "pets", "--no-lint")


@pytest.fixture(scope="module")
def uploaded(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Uploads the pictures to DATA, once for all tests of the server."""
    upload(Berth(environment, tmp_path_factory.mktemp("uploaded")))


@pytest.fixture
def berth(environment: dict[str, str], uploaded: None, tmp_path: Path) -> Berth:
    return Berth(environment, tmp_path)


def test_tune_train_logs_report_jobs_and_delete(berth: Berth) -> None:
    toy = ("--image-uri", "toy:latest")
    done = berth(
        *("tune", DATA, *toy, *SCORE, "--name", "search", "--jobs", "4", "--seed", "1"),
        *("-r", "learning_rate=0.001:1:log", "-r", "flavour=a,b", "-p", "seconds=0.05"),
    )
    assert done.stdout == "search\n"
    best = json.loads((berth.folder / "search/best.json").read_text())
    assert best["objective"]["name"] == "toy:score"
    assert best["hyperparameters"].keys() == {"learning_rate", "flavour", "seconds"}
    assert "Optimisation history" in (berth.folder / "search/tuning.html").read_text()

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
    assert refused.stderr.startswith(
        "berth: best: this is a training job; only endpoints can be deleted"
    )


def test_shards_are_uploaded_and_trained_on(berth: Berth) -> None:
    for split in ("train", "val"):
        write_shard(berth.folder / "sharded" / split / "0.tar", samples(["0", "1"]))
    uri = berth("data", "upload", "sharded", "--no-lint").stdout.strip()
    for data in (uri, "sharded/"):
        local = ("--where", "local") if data != uri else ()
        plan = berth("train", data, *TOY, "--input-mode", "FastFile", "--plan", *local)
        assert '"ChannelName": "validation"' in plan.stdout
        assert '"TrainingInputMode": "FastFile"' in plan.stdout
    done = berth("train", uri, *TOY, "--input-mode", "FastFile", "--name", "sharded-pets")
    assert "toy: input train/0.tar 10240 bytes" in done.stdout
    assert "toy: input validation/0.tar 10240 bytes" in done.stdout


def test_a_failed_job_is_reported_in_one_line(berth: Berth) -> None:
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
    berth(
        *("train", DATA, "--image-uri", "toy:latest", "--name", "long", "--no-wait"),
        *("-p", "seconds=60"),
    )
    assert berth("stop", "long").stdout == "training job long: stopping\n"
    berth("logs", "-f", "long")
    assert berth.status("long") == "Stopped"


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("train", "s3://nowhere/x", *TOY), "data: no such bucket: nowhere"),
    (("train", f"{DATA}none/", *TOY), f"data: nothing found at {DATA}none/"),
    (
        ("train", DATA, "-p", "learnign_rate=1"),
        "unknown hyperparameter 'learnign_rate': did you mean 'learning_rate'?",
    ),
    (
        ("train", DATA, *TOY, "--role", "arn:aws:iam::1:role/x"),
        "CreateTrainingJob: ValidationException: 1 validation error detected: Value "
        "'arn:aws:iam::1:role/x' at 'roleArn'",
    ),
    (
        ("train", DATA, "--image-uri", "nobody:latest"),
        "CreateTrainingJob: ValidationException: ",
    ),
    (
        ("train", DATA, *TOY, "--instance-count", "3"),
        "CreateTrainingJob: ResourceLimitExceeded: ResourceConfig.InstanceCount is 3",
    ),
    (
        ("train", DATA, *TOY, "--bucket", "Bad_Bucket"),
        "CreateBucket: InvalidBucketName: The specified bucket is not valid: found 'Bad_",
    ),
    (("train", DATA, *TOY, "--name", "x" * 64), "--name: found 'xxxx"),
    (
        ("train", DATA, *TOY, "--from-tuning", "nobody"),
        "DescribeHyperParameterTuningJob: ResourceNotFound: ",
    ),
    (
        ("tune", DATA, *TOY, "--metric", "s=s=(", "--objective", "s", "-r", "a=0.1:1"),
        "CreateHyperParameterTuningJob: ValidationException: ",
    ),
    (("deploy", "pets", "--job", "nobody"), "--job: no such training job: nobody"),
    (("invoke", "nobody", "pets/cat/1.jpg"), "endpoint nobody: not found"),
    (("logs", "nobody"), "nobody: not found"),
    (("jobs", "--status", "Wrong"), "--status: found 'Wrong', expected one of "),
]


def test_invalid_commands_fail_with_one_line_and_create_no_job(berth: Berth) -> None:
    upload(berth)
    before = berth("jobs", "--json").stdout
    for words, line in REFUSED:
        refused = berth(*words, status=1)
        assert refused.stdout == "", words
        assert refused.stderr.startswith(f"berth: {line}"), words
        assert len(refused.stderr.splitlines()) == 1, words
    assert berth("jobs", "--json").stdout == before


def test_a_job_fails_if_the_image_has_no_train_command(berth: Berth) -> None:
    done = berth("train", DATA, "--image-uri", "servesonly:latest", "-q", status=1)
    last = done.stderr.splitlines()[-1]
    assert "Failed: ClientError: the container cannot be started: servesonly:latest has no" in last


def test_a_tuning_job_fails_if_the_objective_metric_is_never_logged(berth: Berth) -> None:
    done = berth(
        *("tune", DATA, *TOY, *SCORE, "--name", "silent", "--jobs", "2"),
        *("-r", "learning_rate=0.001:1:log", "-p", "silent=1", "-p", "seconds=0.01"),
        status=1,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("berth: silent: Failed: No objective metrics found after running 2 ")
    assert "toy: epoch 1 | toy: epoch 2 | toy: epoch 3 | toy: done" in last
    assert "No trial has completed" in (berth.folder / "silent/tuning.html").read_text()


@pytest.mark.parametrize("how", ["ctrl-c", "reader gone"])
def test_interrupting_the_log_tail_leaves_the_job_running(berth: Berth, how: str) -> None:
    name = how.replace(" ", "-")
    with berth.start(
        *("train", DATA, *TOY, "--name", name, "--no-download"),
        *("-p", "seconds=0.5", "-p", "epochs=2000"),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("toy: job ")
        if how == "ctrl-c":
            process.send_signal(signal.SIGINT)
        else:
            process.stdout.close()
        said = process.stderr.read().splitlines()
    assert process.returncode == (130 if how == "ctrl-c" else 1)
    assert said[-2].startswith(f"the job continues; follow it: berth logs -f {name}")
    assert said[-1].startswith(f"stop it: berth stop {name}")
    assert berth.status(name) == "InProgress"
    berth("stop", name)
    berth("logs", "-f", name)
    assert berth.status(name) == "Stopped"


def test_names_with_special_characters_reach_the_container(berth: Berth) -> None:
    folder = berth.folder / "bunte näme" / "[bold]ä ☃"
    folder.mkdir(parents=True)
    (folder / "a b'\"<&>.jpg").write_bytes(b"x")
    uri = berth("data", "upload", "bunte näme", "--no-lint", "--prefix", "näme 1").stdout.strip()
    done = berth("train", uri, *TOY, "--name", "names", "-p", "seconds=0.01")
    assert "toy: input train/[bold]ä ☃/a b'\"<&>.jpg 1 bytes" in done.stdout


def test_a_killed_server_is_reported_and_its_job_can_be_stopped_after_a_restart(
    toy_commands: "Commands", tmp_path: Path
) -> None:
    with serving(toy_commands, tmp_path / "home") as (server, environment):
        berth = Berth(environment, tmp_path)
        upload(berth)
        with berth.start("train", DATA, *TOY, "--name", "left", "-p", "seconds=600") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline().startswith("toy: job left")
            server.kill()
            last = process.stderr.read().splitlines()[-1]
        assert process.returncode == 1
        assert last.startswith(f"berth: cannot connect to {environment['AWS_ENDPOINT_URL']}")
    with serving(toy_commands, tmp_path / "home") as (_, environment):
        berth = Berth(environment, tmp_path)
        assert berth("stop", "left").stdout == "training job left: stopping\n"
        berth("logs", "-f", "left")
        assert berth.status("left") == "Stopped"
