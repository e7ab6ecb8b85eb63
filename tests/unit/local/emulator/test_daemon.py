import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.emulator import daemon, lock
from local.emulator.daemon import Address, DaemonError
from local.emulator.executors.process_registry import ProcessRegistry
from local.emulator.home import Home
from tests.unit.local.emulator.server_harness import client


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.delenv("BERTH_PORT", raising=False)
    home = Home.find(tmp_path / "home")
    yield home
    daemon.down(home)


def up(home: Home, port: int | None = 0) -> Address:
    return daemon.up(home, port=port, executor="process")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    """Return whether the process has ended; its parent may notice that after a moment."""
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def test_up_starts_one_server_and_down_stops_it(home: Home) -> None:
    assert daemon.running(home) is None
    assert daemon.down(home) is False
    address = up(home)
    assert (address.executor, address.home) == ("process", home.path)
    facts = json.loads(home.server_file.read_text())
    assert (facts["pid"], facts["url"]) == (address.pid, address.url)
    assert os.getsid(address.pid) != os.getsid(0)
    assert up(home) == address == daemon.running(home) == daemon.up(home)
    with pytest.raises(DaemonError, match="with executor process, not docker"):
        daemon.up(home, executor="docker")
    with pytest.raises(DaemonError, match="not on port 1"):
        daemon.up(home, port=1)
    assert daemon.down(home) is True
    assert daemon.running(home) is None
    assert not home.server_file.exists()
    assert "stopped" in home.server_log.read_text()


def test_two_concurrent_ups_start_one_server(home: Home) -> None:
    code = (
        "import sys; from pathlib import Path; from local.emulator import daemon; "
        "from local.emulator.home import Home; "
        "print(daemon.up(Home(Path(sys.argv[1])), port=0, executor='process').pid)"
    )
    command = [sys.executable, "-c", code, str(home.path)]
    racers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(2)
    ]
    pids = {racer.communicate(timeout=60)[0].strip() for racer in racers}
    address = daemon.running(home)
    assert address is not None
    assert pids == {str(address.pid)}


def test_a_killed_server_keeps_every_object_it_acknowledged(home: Home) -> None:
    address = up(home)
    s3 = client(address.url, "s3")
    s3.create_bucket(Bucket="bucket")
    acknowledged: list[str] = []

    def upload(name: str) -> None:
        mine = client(address.url, "s3")
        for number in range(10_000):
            key = f"{name}/{number}"
            try:
                mine.put_object(Bucket="bucket", Key=key, Body=key.encode() * 1000)
            except Exception:
                return
            acknowledged.append(key)

    threads = [threading.Thread(target=upload, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 20:
        time.sleep(0.01)
    os.kill(address.pid, signal.SIGKILL)
    assert gone(address.pid)
    for thread in threads:
        thread.join()
    assert daemon.running(home) is None
    again = up(home)
    assert again.pid != address.pid
    s3 = client(again.url, "s3")
    for key in acknowledged:
        assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == key.encode() * 1000
    listed = [item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    assert set(acknowledged) <= set(listed)
    content = [path for path in home.objects.glob("content/*/*") if path.is_file()]
    assert len(content) == len(listed)
    assert list(home.objects.glob("incoming/*")) == []


def test_a_requested_port_in_use_is_an_error_and_otherwise_another_is_chosen(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DaemonError, match=f"^port {port}: .*--port or BERTH_PORT$"):
            up(home, port)
        monkeypatch.setenv("BERTH_PORT", str(port))
        with pytest.raises(DaemonError, match=f"^port {port}: "):
            up(home, None)
        monkeypatch.delenv("BERTH_PORT")
        monkeypatch.setattr(daemon, "DEFAULT_PORT", port)
        address = up(home, None)
        assert not address.url.endswith(f":{port}")
        assert f"port {port} is taken; using {address.url}" in capsys.readouterr().err
    monkeypatch.setenv("BERTH_PORT", "http")
    with pytest.raises(DaemonError, match="BERTH_PORT: found 'http'"):
        up(home, None)


def test_a_wrong_server_file_is_ignored(home: Home) -> None:
    address = up(home)
    truth = json.loads(home.server_file.read_text())
    home.server_file.write_text(json.dumps(truth | {"pid": os.getpid()}))
    assert daemon.running(home) is None
    home.server_file.write_text('{"pid": ')
    assert daemon.running(home) is None
    assert daemon.down(home) is True
    assert gone(address.pid)
    home.server_file.write_text(json.dumps(truth | {"pid": os.getpid()}))
    assert daemon.running(home) is None
    assert daemon.down(home) is False
    assert not home.server_file.exists()


def test_a_server_of_another_home_is_not_found(home: Home, tmp_path: Path) -> None:
    other = Home.find(tmp_path / "other")
    theirs = up(other)
    try:
        home.server_file.write_text(other.server_file.read_text())
        assert daemon.running(home) is None
        assert up(home).pid != theirs.pid
    finally:
        daemon.down(other)


def test_the_reason_why_a_server_did_not_start_is_shown(home: Home) -> None:
    home.database.mkdir()
    with pytest.raises(DaemonError, match=f"unable to open database file .*{home.server_log}"):
        up(home)
    assert daemon.running(home) is None
    assert lock.holder(home.path / lock.SERVER) is None


def test_a_full_disk_is_reported(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.server_log.touch()
    full = shutil.disk_usage(home.path)._replace(free=0)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: full)
    assert daemon._why(home, 0) == f"{home.path}: no space left on its disk"


def test_a_server_that_does_not_end_is_killed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    address = up(home)
    os.kill(address.pid, signal.SIGSTOP)
    monkeypatch.setattr(daemon, "HEALTH_SECONDS", 0.2)
    monkeypatch.setattr(daemon, "STOP_SECONDS", 0.5)
    with pytest.raises(DaemonError, match=f"process {address.pid} does not respond"):
        up(home)
    assert daemon.down(home) is True
    assert gone(address.pid)


@pytest.mark.parametrize("how", ["down", "up"])
def test_containers_left_running_by_a_killed_server_are_ended(
    home: Home, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = up(home)
    os.kill(address.pid, signal.SIGKILL)
    assert gone(address.pid)
    registry = ProcessRegistry(home)
    command = [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(60)"]
    with subprocess.Popen(
        command, env=os.environ | registry.mark("job-algo-1"), stdout=subprocess.PIPE
    ) as orphan:
        registry.add("job-algo-1", orphan.pid)
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == b"on\n"
        if how == "down":
            assert daemon.down(home) is False
            assert "removed leftovers of a killed server: job-algo-1" in capsys.readouterr().err
        else:
            up(home)
            assert (
                "removed leftovers of an earlier server: job-algo-1" in home.server_log.read_text()
            )
        assert orphan.wait(20) == -signal.SIGKILL
