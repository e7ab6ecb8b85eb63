"""What every test may ask for: the Docker engine with the built image, a toy image with executors
that run it, and small image folders.

Tests marked `docker` run where an engine answers and holds the image, and are skipped, saying why,
where not. With CI=true or BERTH_REQUIRE_DOCKER=1 a missing engine or image fails them instead.
"""

import fcntl
import functools
import gc
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
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

IMAGE = os.environ.get("BERTH_IMAGE", "berth:latest")
BASE_IMAGE = os.environ.get("BERTH_BASE_IMAGE", "berth-base:trixie")
TOY = Path(__file__).parent / "toy"
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
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would all that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests run side by side, on networks too small for a second thread; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Processes that tests start find the project compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


class CachedFileLoader(JSONFileLoader):
    """botocore parses a service's model once a process, not once a session."""

    @staticmethod
    @functools.cache
    def load_file(file_path: str) -> Any:
        return JSONFileLoader().load_file(file_path)


Loader.FILE_LOADER_CLASS = CachedFileLoader

CLASSES = {"blue": (40, 60, 200), "green": (60, 200, 40), "red": (200, 60, 60)}


@functools.cache
def docker_problem() -> str | None:
    """Why tests cannot use Docker here, or None when they can."""
    with warnings.catch_warnings():
        # Refused a connection, the SDK leaves its socket to the garbage collector.
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark `slow` whatever is no unit test, or needs a server, a container or a training job."""
    slow = {UNIT / name for name in SLOW_FILES}
    gone = [str(path) for path in slow if not path.exists()]
    if gone:
        raise pytest.UsageError(f"SLOW_FILES in tests/conftest.py: found no {gone}")
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if (
            UNIT not in item.path.parents
            or not slow.isdisjoint((item.path, *item.path.parents))
            or not SLOW_FIXTURES.isdisjoint(fixtures)
        ):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") is None:
        return
    problem = docker_problem()
    if problem is not None:
        missing(problem, required=os.environ.get("BERTH_REQUIRE_DOCKER") == "1")


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """moto's server, for the whole session."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """once(name, make): a folder that `make` fills, one for all workers of the run; only read it.

    The first worker to ask makes it while the others wait.
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
def image() -> str:
    """The name of the image under test."""
    return IMAGE


@pytest.fixture(scope="session")
def engine() -> "Iterator[docker.DockerClient]":
    """A client of the Docker engine; only for tests marked `docker`."""
    import docker

    client = docker.from_env(timeout=180)
    yield client
    client.close()


@pytest.fixture(scope="session")
def toy_uri() -> str:
    """The image of tests/toy, by the name under which both executors run it."""
    return "toy:latest"


@pytest.fixture(scope="session")
def toy_commands() -> "Commands":
    """What the process executor runs for `toy_uri`."""
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
    """Either executor, able to run `toy_uri`, for a home in `tmp_path / "home"`; reaped at the end.

    A test that needs one of them alone parametrises it:
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
