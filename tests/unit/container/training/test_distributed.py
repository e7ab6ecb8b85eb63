"""The options with which torchrun starts the ranks of a job."""

import subprocess
from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch.distributed.run import get_args_parser

from container.environment import Environment
from container.training.distributed import launch


def asked(hosts: list[str], rank: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return torchrun's parsed arguments on one host of a job."""
    commands: list[list[str]] = []

    def start(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(wait=lambda: 0, send_signal=None)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    launch(cast(Environment, SimpleNamespace(hosts=hosts, host_rank=rank)), "container.train")
    (command,) = commands
    return get_args_parser().parse_args(command[3:])


def test_single_host_jobs_use_free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    options = asked(["algo-1"], 0, monkeypatch)
    assert options.standalone
    assert options.master_port is None
    assert options.local_addr == "127.0.0.1"


def test_hosts_of_a_job_agree_on_the_rendezvous(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = ["algo-1", "algo-2"]
    places = []
    for rank in (0, 1):
        options = asked(hosts, rank, monkeypatch)
        assert (options.nnodes, options.node_rank, options.standalone) == ("2", rank, False)
        places.append((options.master_addr, options.master_port))
    assert places[0] == places[1]
    assert places[0][0] == "algo-1"
