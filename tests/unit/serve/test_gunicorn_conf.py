import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from serve import gunicorn_conf
from serve.settings import IN_FLIGHT, ServerSettingsError


def test_each_worker_gets_a_gpu_of_its_own_and_a_successor_that_of_the_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gunicorn_conf, "GPUS", ("0", "1"))
    server = SimpleNamespace(WORKERS={})

    def fork(pid: int) -> str | None:
        worker = SimpleNamespace(gpu=None)
        gunicorn_conf.pre_fork(server, worker)
        server.WORKERS[pid] = worker
        return worker.gpu

    assert [fork(10), fork(11)] == ["0", "1"]
    del server.WORKERS[10]
    assert fork(12) == "0"


def test_a_worker_sees_only_the_gpu_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    gunicorn_conf.post_fork(None, SimpleNamespace(gpu=None))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    gunicorn_conf.post_fork(None, SimpleNamespace(gpu="1"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_what_several_workers_count_goes_with_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gunicorn_conf.on_exit(None)
    gunicorn_conf.child_exit(None, SimpleNamespace(pid=10))
    folder = tmp_path / "counted"
    folder.mkdir()
    for name in ("counter_10.db", "gauge_livesum_10.db"):
        (folder / name).touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    gunicorn_conf.child_exit(None, SimpleNamespace(pid=10))
    assert [path.name for path in folder.iterdir()] == ["counter_10.db"]
    gunicorn_conf.on_exit(None)
    assert not folder.exists()


def test_temporary_files_lie_where_one_can_be_made(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert gunicorn_conf.writable((absent, str(tmp_path))) == str(tmp_path)
    with pytest.raises(ServerSettingsError, match=f"^temporary files: found {absent} .*expected"):
        gunicorn_conf.writable((absent,))


def test_room_is_what_is_free(tmp_path: Path) -> None:
    assert gunicorn_conf.has_room(str(tmp_path), 1)
    assert not gunicorn_conf.has_room(str(tmp_path), 1 << 62)


def test_a_file_without_a_name_is_inherited(tmp_path: Path) -> None:
    with gunicorn_conf.anonymous_file(str(tmp_path)) as file:
        child = os.fork()
        if child == 0:
            os.pwrite(file.fileno(), b"known", 0)
            os._exit(0)
        os.waitpid(child, 0)
        assert os.pread(file.fileno(), 10, 0) == b"known"
    assert list(tmp_path.iterdir()) == []


def test_a_thread_is_left_for_pings_when_every_place_is_taken() -> None:
    assert gunicorn_conf.threads > IN_FLIGHT
    assert gunicorn_conf.worker_connections > gunicorn_conf.threads
    assert gunicorn_conf.graceful_timeout < 30
