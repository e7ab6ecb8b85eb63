"""Installs with one extra or none, each in a separate virtual environment."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.environments import EnvironmentMissing, environment
from tests.requirements import missing

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "container", "serve", "local")
LOCK = runpy.run_path(str(ROOT / "docker" / "lock.py"))
LARGE = ("torch", "torchvision", "smdebug", "sagemaker_training", "pandas", "sklearn", "matplotlib")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        path = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(path, copy / name, ignore=ignored) if path.is_dir() else shutil.copy2(
            path, copy
        )
    made = copy / "dist"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(made), str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = made.glob("berth_vision-*.whl")
    return path


def installed(extra: str | None, wheel: Path, cache: Path, tmp_path: Path) -> Path:
    """The bin folder of an environment with the wheel and one extra at the locked versions."""
    pins = LOCK["closure"]([extra], bare=False) if extra else {}
    requirements = tmp_path / f"extra-{extra}.txt"
    requirements.write_text("".join(f"{name}=={pin}\n" for name, pin in sorted(pins.items())))
    try:
        python = environment(requirements, cache)
    except EnvironmentMissing as error:
        missing(str(error))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)],
        check=True,
    )
    check = subprocess.run([*pip, "check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
    return python.parent


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(each) for each in command],
        env={**kept, **variables},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def megabytes(prefix: Path) -> float:
    blocks = sum(path.lstat().st_blocks for path in prefix.rglob("*"))
    return blocks * 512 / 2**20


@pytest.fixture(scope="module")
def cache(pytestconfig: pytest.Config) -> Path:
    return pytestconfig.cache.mkdir("environments")


def test_the_local_extra_is_small_and_runs_a_local_sagemaker(
    wheel: Path, cache: Path, tmp_path: Path
) -> None:
    bin_folder = installed("local", wheel, cache, tmp_path)
    assert megabytes(bin_folder.parent) <= 250
    python, berth = bin_folder / "python", bin_folder / "berth"
    loaded = run(
        python,
        "-c",
        f"import sys\nfor name in {LARGE}:\n    sys.modules[name] = None\n"
        "import importlib, local.cli\n"
        "for entry in local.cli.COMMANDS: local.cli.load(entry)",
    )
    assert loaded.returncode == 0, loaded.stderr
    home = {"BERTH_HOME": str(tmp_path / "home")}
    up = run(berth, "up", "--executor", "process", **home)
    try:
        assert up.returncode == 0, up.stderr
        variables = dict(re.findall(r"export (\w+)=(\S+)", up.stdout))
        assert "AWS_ENDPOINT_URL" in variables, up.stdout
        code = (
            "import boto3\n"
            "boto3.client('s3').create_bucket(Bucket='photos')\n"
            "print(boto3.client('sts').get_caller_identity()['Account'])\n"
            "print(boto3.client('iam').list_roles()['Roles'][0]['RoleName'])\n"
            "print(boto3.client('ecr').describe_repositories()['repositories'])\n"
            "print(boto3.client('cloudwatch').list_metrics()['Metrics'])\n"
            "print(boto3.client('sagemaker').list_training_jobs()['TrainingJobSummaries'])\n"
        )
        asked = run(python, "-c", code, **variables)
        assert asked.returncode == 0, asked.stderr
        assert asked.stdout.splitlines()[1:] == ["berth", "[]", "[]", "[]"]
        for command, extra in (
            (("data", "lint", str(tmp_path)), "image"),
            (("data", "fetch", "digits", str(tmp_path / "digits")), "image"),
            (("report", str(tmp_path)), "report"),
        ):
            done = run(berth, *command, **home)
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1].endswith(f"'berth-vision[{extra}]'"), done.stderr
    finally:
        run(berth, "down", **home)
    for verb, extra in (("train", "image"), ("serve", "serve")):
        done = run(bin_folder / verb)
        assert done.returncode == 1
        assert done.stderr.endswith(f"'berth-vision[{extra}]'\n"), done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_serve_extra_has_all_imports_of_a_cpu_server(
    wheel: Path, cache: Path, tmp_path: Path
) -> None:
    bin_folder = installed("serve", wheel, cache, tmp_path)
    code = (
        f"import sys\nfor name in {LARGE}:\n    sys.modules[name] = None\n"
        "import serve.app, serve.inference.engine, serve.__main__, openvino"
    )
    done = run(bin_folder / "python", "-c", code)
    assert done.returncode == 0, done.stderr
    berth = run(bin_folder / "berth", "jobs")
    assert berth.returncode == 1
    assert berth.stderr.endswith("'berth-vision[local]'\n")


def test_without_extras_each_command_names_the_extra_it_needs(
    wheel: Path, cache: Path, tmp_path: Path
) -> None:
    bin_folder = installed(None, wheel, cache, tmp_path)
    for command, extra in (("berth", "local"), ("train", "image"), ("serve", "serve")):
        done = run(bin_folder / command)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.endswith(f"'berth-vision[{extra}]'\n")
