"""The process that evaluates rules during training: start, statuses, end and failure."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from container.monitoring.debugger import watcher as watchers
from container.monitoring.debugger.hook import TensorHook
from container.monitoring.debugger.watcher import Watcher
from container.rules.debugger import DEBUG_RULES
from container.rules.requests import RuleRequest, parse_rules
from tests.unit.container.monitoring.debugger.training import settings_for

OWN = '''
import sys
import time
from pathlib import Path
from smdebug.rules.rule import Rule

class Raises(Rule):
    def __init__(self, base_trial):
        super().__init__(base_trial)

    def invoke_at_step(self, step):
        raise ValueError("at step " + str(step))

class Light(Raises):
    """Fires if the process is not what it should be."""
    def invoke_at_step(self, step):
        import os
        return "torch" in sys.modules or os.nice(0) != 19 or os.environ["OMP_NUM_THREADS"] != "1"

class Fires(Raises):
    def invoke_at_step(self, step):
        return step == 2

class Sleeps(Raises):
    def invoke_at_step(self, step):
        Path(__file__).with_name("asleep").touch()
        time.sleep(600)

class Dies(Raises):
    def invoke_at_step(self, step):
        import os
        print("out of memory, say", file=sys.stderr)
        os._exit(9)
'''


class Job:
    """A job that saves a loss per step, and its watcher."""

    def __init__(self, base: Path) -> None:
        self.base, self.said = base, list[str]()
        self.settings = settings_for(base, collections=["losses"])
        self.statuses = base / "output" / "data" / "rules" / "debug.json"
        self.own = base / "own.py"
        self.own.write_text(OWN)
        self.watchers: list[Watcher] = []
        self.hook: TensorHook | None = None

    def watch(self, rules: Sequence[RuleRequest]) -> Watcher:
        watcher = Watcher(self.settings.path, self.statuses, rules, self.own, self.said.append)
        self.watchers.append(watcher)
        watcher.start()
        return watcher

    def step(self, count: int = 1) -> None:
        self.hook = self.hook or TensorHook(self.settings, nn.Linear(1, 1))
        for _ in range(count):
            self.hook.step("train")
            self.hook.record("losses", torch.tensor(1.0))

    def close(self) -> None:
        if self.hook is not None:
            self.hook.close()

    def read(self) -> list[dict[str, Any]]:
        return list(json.loads(self.statuses.read_text()))


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    for watcher in job.watchers:
        watcher.kill()
    job.close()


def own(rule: str, *, stop: bool = False) -> RuleRequest:
    return RuleRequest(rule, f"my-{rule}", {}, stop)


def wait_until(what: Callable[[], Any], seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)
    return found


def states(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["RuleEvaluationStatus"] for entry in entries]


def test_rules_are_evaluated_during_training(job: Job) -> None:
    rules = [own("Raises"), own("Light"), own("Fires", stop=True)]
    watcher = job.watch([*rules, *parse_rules(DEBUG_RULES, ["auto"])])
    assert set(states(job.read())) == {"InProgress"}
    assert watcher.stop_asked() is None
    job.step(5)  # the fifth is not closed yet
    asked = wait_until(watcher.stop_asked)
    assert asked == "rule my-Fires fired at step 2"
    assert watcher.stop_asked() is asked
    wait_until(lambda: job.read()[1]["Points"] == 4)
    assert states(job.read())[:3] == ["Error", "InProgress", "IssuesFound"]
    job.step(1)
    job.close()
    entries = watcher.finish()
    assert entries == job.read()
    raises, light, fires, *built_in = entries
    assert raises["StatusDetails"].startswith("ValueError: at step 0\nTraceback")
    assert f'File "{job.own}"' in raises["StatusDetails"]
    assert (light["RuleEvaluationStatus"], light["Points"]) == ("NoIssuesFound", 6)
    assert (fires["Steps"], fires["Points"]) == ([2], 6)
    assert {"Error", "InProgress"}.isdisjoint(states(built_in))
    watcher.kill()
    assert states(job.read()) == states(entries), "harmless afterwards"
    assert job.said == []


def test_an_interrupted_job_keeps_the_statuses_found_so_far(job: Job) -> None:
    watcher = job.watch([own("Fires"), own("Sleeps")])
    job.step(1)
    job.close()
    watcher.kill()
    assert states(job.read()) == ["Stopped", "Stopped"]
    assert job.read()[0]["StatusDetails"] == "the job was interrupted"
    assert not list(job.statuses.parent.glob(".*"))


def test_evaluation_that_takes_too_long_is_an_error(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers, "LOG_SECONDS", 0.5)
    watcher = job.watch([own("Sleeps")])
    job.step(3)
    job.close()
    entries = watcher.finish(timeout=1.2)
    assert states(entries) == states(job.read()) == ["Error"]
    assert entries[0]["StatusDetails"].startswith("not done 1 s after training ended: evaluated 0")
    assert job.said[0].startswith("rules: evaluated 0 of ")


def test_a_dead_process_is_an_error_of_the_unfinished_rules(job: Job) -> None:
    watcher = job.watch([own("Dies")])
    job.step(3)
    job.close()
    (entry,) = watcher.finish()
    assert entry["RuleEvaluationStatus"] == "Error"
    assert entry["StatusDetails"] == (
        "the evaluation ended with status 9 before it was done: out of memory, say"
    )


def test_missing_tensors_are_an_error(job: Job) -> None:
    watcher = job.watch(parse_rules(DEBUG_RULES, ["Overfit"]))
    (entry,) = watcher.finish()
    assert entry["RuleEvaluationStatus"] == "Error"
    assert "no tensors that could be read were saved" in entry["StatusDetails"]


def test_truncated_files_do_not_end_the_evaluation(job: Job) -> None:
    job.step(4)
    job.close()
    (events,) = (job.settings.path / "events").rglob("*000001_worker_0.tfevents")
    (index,) = (job.settings.path / "index").rglob("*000002_worker_0.json")
    (described,) = (job.settings.path / "collections").rglob("*.json")
    whole = described.read_text()
    (job.settings.path / "training_job_end.ts").unlink()
    for file in (events, index, described):
        file.write_bytes(file.read_bytes()[:25])
    watcher = job.watch(parse_rules(DEBUG_RULES, ["ExplodingTensor"]))
    time.sleep(1)  # the process looks and finds no readable description
    described.write_text(whole)
    (entry,) = watcher.finish()
    assert entry["RuleEvaluationStatus"] == "NoIssuesFound"
    assert entry["StatusDetails"] == "1 saved steps could not be read"
    assert entry["Points"] == 2


def test_a_process_that_cannot_be_started_is_reported(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    watcher = job.watch(parse_rules(DEBUG_RULES, ["Overfit"]))
    assert len(job.said) == 1
    assert job.said[0].startswith("rules are not evaluated: ")
    assert watcher.stop_asked() is None
    (entry,) = watcher.finish()
    assert entry["RuleEvaluationStatus"] == "Error"
    assert entry["StatusDetails"] == "the evaluation could not be started"


def test_it_ends_with_the_jobs_process_during_any_rule(job: Job) -> None:
    job.step(3)
    job.close()
    (job.settings.path / "training_job_end.ts").unlink()
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from container.monitoring.debugger.watcher import Watcher\n"
        "from container.rules.requests import RuleRequest\n"
        "folder, statuses, own = map(Path, sys.argv[1:])\n"
        "rules = [RuleRequest('Sleeps', 'sleeps'), RuleRequest('Fires', 'fires')]\n"
        "watcher = Watcher(folder, statuses, rules, own, print)\n"
        "watcher.start()\n"
        "print(watcher._process.pid, watcher._exchange, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, *map(str, (job.settings.path, job.statuses, job.own))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, exchange = parent.stdout.readline().split()
        watching = psutil.Process(int(pid))
        wait_until(job.own.with_name("asleep").exists)
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(int(pid)) or _is_zombie(watching))
    assert states(job.read()) == ["Stopped", "Stopped"]
    assert job.read()[0]["StatusDetails"] == "the job's process ended"
    wait_until(lambda: not Path(exchange).exists())


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
