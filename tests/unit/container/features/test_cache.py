"""Jobs share a cache: one computes, the others wait, and nothing in use is removed."""

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from container.data.index import Index
from container.environment import Environment
from container.features import cache as caches
from container.features.cache import FeatureCache
from container.training.checkpoint import Interrupted
from tests.unit.container.features import tiny


def environment(base: Path) -> Environment:
    return Environment(base, ("algo-1",), "algo-1", "lo", "local")


def test_the_cache_is_in_the_warm_pool_or_the_jobs_tree(tmp_path: Path) -> None:
    own = FeatureCache.find(environment(tmp_path))
    assert (own.root, own.shared) == (tmp_path / "features", False)
    pool = tmp_path / "sagemaker" / "warmpoolcache"
    pool.mkdir(parents=True)
    shared = FeatureCache.find(environment(tmp_path))
    assert (shared.root, shared.shared) == (pool / "features", True)


def test_an_unwritable_pool_is_not_used(tmp_path: Path) -> None:
    pool = tmp_path / "sagemaker" / "warmpoolcache"
    pool.mkdir(parents=True)
    (pool / "features").write_text("a file in its place")
    cache = FeatureCache.find(environment(tmp_path))
    assert (cache.root, cache.shared) == (tmp_path / "features", False)


def test_an_unwritable_tree_falls_back_to_a_temporary_folder(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file in its place")
    cache = FeatureCache.find(environment(tmp_path))
    assert tmp_path not in cache.root.parents
    assert cache.root.is_dir()
    cache.root.rmdir()


def test_one_job_computes_and_the_others_wait(
    tmp_path: Path, make_folder: Callable[..., Path]
) -> None:
    index = Index.from_folder(make_folder({"ants": 40, "bees": 40}, side=(9, 12)))
    said: list[list[str]] = [[], [], []]
    found: list[np.ndarray] = []

    # Locks are of open files, so threads with caches of their own are as good as processes. The
    # networks are built here, as threads share the generator that their weights come from.
    extractors = [tiny.extractor(tmp_path, lines, shared=True) for lines in said]

    def job(number: int) -> None:
        found.append(np.array(extractors[number].extract(index).values))

    first = FeatureCache(tmp_path, True)
    name = tiny.extractor(tmp_path, []).key(index).name
    waiting = threading.Event()
    threads = [threading.Thread(target=job, args=(number,)) for number in range(3)]
    with first.computing(name, "it"):
        for thread in threads:
            thread.start()
        while not all(any("waiting for" in line for line in lines) for lines in said):
            waiting.wait(0.01)
            assert all(thread.is_alive() for thread in threads)
        assert found == []
    for thread in threads:
        thread.join()
    lines = [line for each in said for line in each]
    assert sum("80 x 6" in line for line in lines) == 1, "one has computed"
    assert sum("waiting for another job" in line for line in lines) == 3
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


HOLDER = """
import fcntl, sys, time
with open(sys.argv[1], "ab") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "locks" / "key.build")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(Interrupted),
            FeatureCache(tmp_path, True, stopped=lambda: True).computing("key", "it"),
        ):
            pass
        holder.kill()
    said: list[str] = []
    with FeatureCache(tmp_path, True, say=said.append).computing("key", "it"):
        assert said == []


def test_a_stopped_job_no_longer_waits(tmp_path: Path) -> None:
    with (
        FeatureCache(tmp_path, True).computing("key", "it"),
        pytest.raises(Interrupted, match="stopped while waiting for the features"),
        FeatureCache(tmp_path, True, stopped=lambda: True).computing("key", "the features"),
    ):
        pass


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shared cache at its limit of 400 bytes: entries a to d of 100, a used first."""
    monkeypatch.setattr(caches, "LIMIT", 400)
    for age, name in enumerate("abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "features.bin").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    return tmp_path


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {"locks"}


def test_the_least_recently_used_is_evicted_first(full: Path) -> None:
    said: list[str] = []
    FeatureCache(full, True, say=said.append).make_room(150, "new")
    assert names(full) == {"c", "d"}
    assert len(said) == 2


def test_entries_in_use_are_not_evicted(full: Path) -> None:
    reader, builder = FeatureCache(full, True), FeatureCache(full, True)
    reader.hold("c")
    os.utime(full / "c", (1, 1))
    with builder.computing("a", "it"):
        FeatureCache(full, True, say=lambda _line: None).make_room(150, "new")
        assert names(full) == {"a", "c"}
    reader.release()
    FeatureCache(full, True, say=lambda _line: None).make_room(400, "new")
    assert names(full) == set()


def test_holding_marks_as_used(full: Path) -> None:
    cache = FeatureCache(full, True, say=lambda _line: None)
    cache.hold("a")
    cache.release()
    cache.make_room(100, "new")
    assert names(full) == {"a", "c", "d"}


def test_a_jobs_own_cache_has_no_limit(full: Path) -> None:
    FeatureCache(full, False).make_room(10_000, "new")
    assert names(full) == set("abcd")


def test_locks_are_released_with_the_cache(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, True)
    cache.hold("key")
    del cache
    with (tmp_path / "locks" / "key.read").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
