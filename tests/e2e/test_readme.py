"""What the README says to type is typed here, block by block, and must work."""

import io
import re
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from container.hyperparameters import table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
MAKE = [block.split() for block in BLOCKS if block.startswith("make ")]


def picture(seed: int, side: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the reader has: photos, an archive of CIFAR-10's shape, and the project's .venv."""
    root = tmp_path_factory.mktemp("reader")
    (root / ".venv").symlink_to(sys.prefix)
    for split, count in (("train", 6), ("validation", 2)):
        for name in ("ants", "bees"):
            (root / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                data = picture(zlib.crc32(f"{split}/{name}/{number}".encode()), 80)
                (root / "photos" / split / name / f"{number}.jpg").write_bytes(data)
    with tarfile.open(root / "cifar10.tar.gz", "w:gz") as archive:
        for number in range(60):
            split = "train" if number < 50 else "test"
            data = picture(number, 32)
            member = tarfile.TarInfo(f"cifar10/{split}/class{number % 5}/{number}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    yield root
    subprocess.run(["docker", "rm", "-f", "berth-serving"], capture_output=True, check=False)


@pytest.fixture
def environment(folder, monkeypatch):
    """The reader has no SageMaker of their own running."""
    monkeypatch.setenv("BERTH_HOME", str(folder / "home"))
    yield
    berth = [str(folder / ".venv" / "bin" / "berth"), "down"]
    subprocess.run(berth, capture_output=True, check=False)


def test_make_targets_exist():
    named = re.findall(r"`make (\w+)`", README) + [words[1] for words in MAKE]
    assert {"demo", "test", "build"} <= set(named)
    for target in named:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_the_hyperparameters_are_the_documented_ones():
    assert table() in README


@pytest.mark.docker
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("environment")
def test_every_block_works(folder):
    typed = [block for block in BLOCKS if not block.startswith("make ")]
    assert len(typed) >= 4
    for block in typed:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=580,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        if "/invocations" in block:
            assert '"predictions"' in done.stdout
