import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from local import processes
from local.processes import ProcessError, serve, train, write_tree


@pytest.fixture
def command(tmp_path, monkeypatch):
    """command(script): what `train` and `serve` do, as a Python script."""

    def put(script: str) -> None:
        path = tmp_path / "command"
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(0o755)
        monkeypatch.setattr(processes, "_command", lambda _name: str(path))

    return put


def test_tree_is_what_sagemaker_writes(tmp_path):
    write_tree(tmp_path, ["train"], {"epochs": 3, "lr": 0.1, "freeze": True})
    config = tmp_path / "input" / "config"
    assert json.loads((config / "hyperparameters.json").read_text()) == {
        "epochs": "3",
        "lr": "0.1",
        "freeze": "True",
    }
    assert json.loads((config / "inputdataconfig.json").read_text()) == {
        "train": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}
    }
    assert json.loads((config / "resourceconfig.json").read_text())["hosts"] == ["algo-1"]


def test_train_hands_over_the_tree(tmp_path, command):
    command(
        "import os, pathlib\n"
        "assert os.environ['SAGEMAKER_TRAINING_MODULE'] == 'container.train:main'\n"
        "pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'], 'ran').touch()\n"
    )
    train(tmp_path)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("failure", "said"), [("the line\nmore", "status 3: the line"), (None, "status 3: see its log")]
)
def test_a_failed_training_says_its_first_line(tmp_path, command, failure, said):
    command("import sys; sys.exit(3)")
    if failure:
        (tmp_path / "output").mkdir()
        (tmp_path / "output" / "failure").write_text(failure)
    with pytest.raises(ProcessError, match=said) as caught:
        train(tmp_path)
    assert "\n" not in str(caught.value)


SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_response(503 if Handler.asked < 3 else 200)
        self.end_headers()
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def test_serve_waits_until_healthy_and_stops_what_it_started(tmp_path, command, monkeypatch):
    started = []
    popen = subprocess.Popen

    def remember(*args, **options):
        started.append(popen(*args, **options))
        return started[-1]

    command(SERVER)
    monkeypatch.setattr(processes.subprocess, "Popen", remember)
    with serve(tmp_path) as url:
        assert requests.get(f"{url}/ping", timeout=5).status_code == 200
        assert started[0].poll() is None
    assert started[0].returncode == 0


def test_a_server_that_ends_is_said_at_once(tmp_path, command):
    command("import sys; sys.exit(7)")
    with pytest.raises(ProcessError, match="ended with status 7"), serve(tmp_path):
        pass


def test_a_server_that_never_gets_healthy_is_given_up(tmp_path, command, monkeypatch):
    monkeypatch.setattr(processes, "START_SECONDS", 1.0)
    command(SERVER.replace("Handler.asked < 3", "True"))
    with pytest.raises(ProcessError, match="not healthy within 1 s"), serve(tmp_path):
        pass


def test_the_commands_are_this_environments():
    assert Path(processes._command("serve")).exists()
