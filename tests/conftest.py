"""Fixtures for all tests: the Docker engine with the built image, a toy image and the executors
that run it, and small image folders.

Tests marked `docker` are skipped, with the reason, if there is no Docker engine or it lacks the
image. With CI=true or BERTH_REQUIRE_DOCKER=1 they fail instead.
"""

import fcntl
import functools
import gc
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from botocore.loaders import JSONFileLoader, Loader
from PIL import Image

from tests.requirements import missing

if TYPE_CHECKING:
    import docker
    from local.emulator.executors import Executor
    from local.emulator.executors.process import Commands

# As in the image: smdebug needs this implementation, which is chosen at protobuf's first import.
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")

IMAGE = os.environ.get("BERTH_IMAGE", "berth:latest")
SERVING_IMAGE = os.environ.get("BERTH_SERVING_IMAGE", "berth:serve")
BASE_IMAGE = os.environ.get("BERTH_BASE_IMAGE", "berth-base:trixie")
TOY = Path(__file__).parent / "toy"
PRELOADED = Path(__file__).parent / "preloaded"
UNIT = Path(__file__).parent / "unit"
SLOW_FIXTURES = {"engine", "job", "moto_url", "server", "start", "toy_executor"}
SLOW_FILES = (
    "container/data/sources/test_sources.py",
    "container/files/test_folders.py",
    "container/monitoring/debugger",
    "container/test_models_architectures.py",
    "container/test_artifact.py",
    "container/test_models.py",
    "container/training/test_weights.py",
    "local/emulator/aws",
    "local/emulator/executors",
    "local/emulator/test_daemon.py",
    "local/emulator/test_server.py",
)
"""Files and folders of unit tests that start servers or processes, or train networks."""
LONG_FILES = {
    "contract/test_sdk_v2.py": 140,
    "e2e/test_documents.py": 110,
    "contract/test_local_sagemaker.py": 110,
    "e2e/test_local_sagemaker.py": 100,
    "e2e/test_killed_sagemaker.py": 100,
    "contract/test_local_mode.py": 90,
    "contract/test_int8.py": 80,
    "contract/test_local_sagemaker_hosts.py": 70,
    "contract/test_training.py": 70,
    "e2e/test_demo.py": 60,
    "contract/test_commands.py": 60,
    "unit/serve/test_serve_fuzz.py": 70,
    "unit/container/test_train.py": 60,
    "e2e/test_interruption.py": 50,
    "e2e/test_distributed.py": 50,
    "e2e/test_features.py": 40,
    "unit/container/monitoring/test_monitor.py": 40,
    "contract/test_training_image.py": 30,
}
"""Files with long tests and their seconds on two cores, the longest first."""
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores SIGINT, and processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests run in parallel on networks too small for a second thread; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that tests start reuse the compiled bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


class CachedFileLoader(JSONFileLoader):
    """Parses each botocore service model once per process instead of once per session."""

    @staticmethod
    @functools.cache
    def load_file(file_path: str) -> Any:
        return JSONFileLoader().load_file(file_path)


Loader.FILE_LOADER_CLASS = CachedFileLoader

CLASSES = {"blue": (40, 60, 200), "green": (60, 200, 40), "red": (200, 60, 60)}


@functools.cache
def docker_problem() -> str | None:
    """The reason why tests cannot use Docker, or None if they can."""
    with warnings.catch_warnings():
        # The SDK does not close its socket when the connection is refused.
        warnings.simplefilter("ignore", ResourceWarning)
        problem = _look_for_image()
        gc.collect()
    return problem


def _look_for_image() -> str | None:
    import docker

    try:
        client = docker.from_env()
    except docker.errors.DockerException:
        return "no Docker engine answers; start one, or point DOCKER_HOST at one"
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        return f"the Docker engine has no image {IMAGE}; run `make build`"
    finally:
        client.close()
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude imported modules and collected tests from garbage collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Mark slow tests before `-m` selects; then sort, so that workers start with long tests."""
    mark_slow(items)
    yield
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = long_first(items, workers)


def mark_slow(items: list[pytest.Item]) -> None:
    """Mark tests that are not unit tests, or need a server, a container or a training job."""
    slow = {UNIT / name for name in SLOW_FILES}
    named = slow | {UNIT.parent / name for name in LONG_FILES}
    gone = [str(path) for path in named if not path.exists()]
    if gone:
        raise pytest.UsageError(f"SLOW_FILES and LONG_FILES in tests/conftest.py: found no {gone}")
    in_slow_file: dict[Path, bool] = {}
    for item in items:
        if item.path not in in_slow_file:
            above = {item.path, *item.path.parents}
            in_slow_file[item.path] = UNIT not in above or not slow.isdisjoint(above)
        fixtures = getattr(item, "fixturenames", ())
        if in_slow_file[item.path] or not SLOW_FIXTURES.isdisjoint(fixtures):
            item.add_marker(pytest.mark.slow)


def long_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Sort the tests so that each worker starts with an equal share of the seconds of LONG_FILES.

    pytest-xdist gives each worker the same number of consecutive tests; a worker that has finished
    its own takes tests from the end of another's.
    """
    files = {UNIT.parent / name: seconds for name, seconds in LONG_FILES.items()}
    long: dict[Path, list[pytest.Item]] = {path: [] for path in files}
    short: list[pytest.Item] = []
    for item in items:
        long.get(item.path, short).append(item)
    runs: list[list[pytest.Item]] = [[] for _ in range(workers)]
    seconds = [0] * workers
    for path, tests in long.items():
        if tests:
            lightest = seconds.index(min(seconds))
            runs[lightest] += tests
            seconds[lightest] += files[path]
    left = len(items)
    for number, run in enumerate(runs):
        size = left // (workers - number)
        wanted = max(0, size - len(run))
        run += short[:wanted]
        del short[:wanted]
        left -= len(run)
    return [item for run in runs for item in run] + short


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") is None:
        return
    problem = docker_problem()
    if problem is not None:
        missing(problem, required=os.environ.get("BERTH_REQUIRE_DOCKER") == "1")


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """The URL of a moto server for the whole session."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """once(name, make): a folder that `make` fills once for all workers; tests only read it.

    The first worker to call it runs `make` while the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made_once(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / f"once-{name}", root / f"once-{name}.done"
        with (root / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made_once


@pytest.fixture(scope="session")
def preloaded(once: Callable[[str, Callable[[Path], None]], Path]) -> dict[str, str]:
    """Environment variables with which `train` and its ranks start as forks; see tests/preloaded.

    All workers of the run share one fork server, which ends with the run. Empty on systems without
    pidfds, such as macOS, where processes start normally.
    """
    if not hasattr(os, "pidfd_open"):
        return {}
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()

    def start(folder: Path) -> None:
        command = [sys.executable, "-P", str(PRELOADED / "server.py"), str(owner)]
        started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        (folder / "address").write_text(started.stdout.strip())

    address = (once("preloaded", start) / "address").read_text()
    return {"PRELOADED": address, "PYTHONPATH": str(PRELOADED)}


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the image under test."""
    return IMAGE


@pytest.fixture(scope="session")
def serving_image(engine: "docker.DockerClient") -> str:
    """The name of the serving image; only for tests marked `docker`."""
    import docker

    try:
        engine.images.get(SERVING_IMAGE)
    except docker.errors.ImageNotFound:
        missing(f"the Docker engine has no image {SERVING_IMAGE}; run `make build TARGET=serve`")
    return SERVING_IMAGE


@pytest.fixture(scope="session")
def engine() -> "Iterator[docker.DockerClient]":
    """A client of the Docker engine; only for tests marked `docker`."""
    import docker

    client = docker.from_env(timeout=180)
    yield client
    client.close()


@pytest.fixture(scope="session")
def toy_uri() -> str:
    """The name under which both executors run the image of tests/toy."""
    return "toy:latest"


@pytest.fixture(scope="session")
def toy_commands() -> "Commands":
    """The commands that the process executor runs for `toy_uri`."""
    return {
        "toy": {verb: (sys.executable, str(TOY / f"{verb}.py")) for verb in ("train", "serve")},
    }


@pytest.fixture(scope="session")
def toy_image(engine: "docker.DockerClient", toy_uri: str) -> str:
    """`toy_uri`, built; only for tests marked `docker`."""
    import docker

    try:
        engine.images.get(BASE_IMAGE)
    except docker.errors.ImageNotFound:
        missing(f"the Docker engine has no image {BASE_IMAGE}; run docker/base-image.sh")
    engine.images.build(path=str(TOY), tag=toy_uri, buildargs={"BASE_IMAGE": BASE_IMAGE}, rm=True)
    return toy_uri


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def toy_executor(
    request: pytest.FixtureRequest, tmp_path: Path, toy_commands: "Commands"
) -> "Iterator[Executor]":
    """Each executor in turn, with `toy_uri` and the home `tmp_path / "home"`; reaped at the end.

    A test that needs only one of them parametrises the fixture:
    `@pytest.mark.parametrize("toy_executor", ["process"], indirect=True)`.
    """
    from local.emulator.home import Home

    home = Home.find(tmp_path / "home")
    executor: Executor
    if request.param == "docker":
        from local.emulator.executors.docker import DockerExecutor

        request.getfixturevalue("toy_image")
        executor = DockerExecutor(home)
    else:
        from local.emulator.executors.process import ProcessExecutor

        executor = ProcessExecutor(home, toy_commands)
    yield executor
    executor.reap()


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """{train,validation}/{blue,green,red}/*.png: 12 and 4 noisy 32x32 images of each colour."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for split, count in (("train", 12), ("validation", 4)):
        for name, colour in CLASSES.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.array(colour) + noise.integers(-40, 41, (32, 32, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root
