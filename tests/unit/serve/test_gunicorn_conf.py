import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from serve import gunicorn_conf
from serve.settings import IN_FLIGHT, ServerSettingsError


def test_each_worker_gets_its_own_gpu_and_a_replacement_gets_that_of_the_dead_worker(
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


def test_a_worker_sees_only_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    gunicorn_conf.post_fork(None, SimpleNamespace(gpu=None))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    gunicorn_conf.post_fork(None, SimpleNamespace(gpu="1"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_shared_metric_files_are_removed_with_the_server(
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


def test_temporary_files_use_the_first_writable_folder(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert gunicorn_conf.writable((absent, str(tmp_path))) == str(tmp_path)
    with pytest.raises(ServerSettingsError, match=f"^temporary files: found {absent} .*expected"):
        gunicorn_conf.writable((absent,))


def test_has_room_compares_with_the_free_space(tmp_path: Path) -> None:
    assert gunicorn_conf.has_room(str(tmp_path), 1)
    assert not gunicorn_conf.has_room(str(tmp_path), 1 << 62)


def test_an_anonymous_file_is_inherited_by_child_processes(tmp_path: Path) -> None:
    with gunicorn_conf.anonymous_file(str(tmp_path)) as file:
        child = os.fork()
        if child == 0:
            os.pwrite(file.fileno(), b"known", 0)
            os._exit(0)
        os.waitpid(child, 0)
        assert os.pread(file.fileno(), 10, 0) == b"known"
    assert list(tmp_path.iterdir()) == []


def test_a_thread_remains_for_pings_at_the_request_limit() -> None:
    assert gunicorn_conf.threads > IN_FLIGHT
    assert gunicorn_conf.worker_connections > gunicorn_conf.threads
    assert gunicorn_conf.graceful_timeout < 30
