"""Runs the command blocks of README and docs, and checks their links and paths."""

import io
import re
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from container.hyperparameters import table

ROOT = Path(__file__).parents[2]
IN_ORDER = (
    "README.md",
    "docs/debugging-and-profiling.md",
    "docs/container.md",
    "docs/serving.md",
    "docs/data.md",
)
"""Pages with command blocks, in running order; `docs/container.md` serves what it trains."""
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {page: BLOCK.findall(text) for page, text in PAGES.items()}
LINKS = [
    (page, link)
    for page, text in PAGES.items()
    for link in re.findall(r"\]\(([^)\s]+)\)", text)
    if not link.startswith("http")
]


def picture(seed: int, side: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The reader's folder: photos, an archive like CIFAR-10's, and the project's .venv."""
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
def _no_sagemaker_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use a home in which no local SageMaker is running."""
    monkeypatch.setenv("BERTH_HOME", str(folder / "home"))
    yield
    berth = [str(folder / ".venv" / "bin" / "berth"), "down"]
    subprocess.run(berth, capture_output=True, check=False)


def test_documented_make_targets_exist() -> None:
    named = set(re.findall(r"(?:`|^)make (\w+)", "\n".join(PAGES.values()), re.MULTILINE))
    assert {"demo", "test", "quick", "check", "build"} <= named
    for target in named:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_all_hyperparameters_are_documented() -> None:
    assert table() in PAGES["docs/hyperparameters.md"]


@pytest.mark.parametrize("page", PAGES)
def test_documented_paths_exist(page: str) -> None:
    trees = "container|serve|local|docker|docs|tests"
    for path in re.findall(rf"`((?:{trees})/[\w./-]*)`", PAGES[page]):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_link_targets_exist(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in titles}


def test_the_readme_links_to_every_page() -> None:
    linked = {link.partition("#")[0] for page, link in LINKS if page == "README.md"}
    assert set(PAGES) - {"README.md"} <= linked


def test_every_page_with_command_blocks_is_run() -> None:
    typed = {page for page, blocks in BLOCKS.items() for each in blocks if each[:5] != "make "}
    assert typed == set(IN_ORDER)


@pytest.mark.docker
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("_no_sagemaker_before")
@pytest.mark.parametrize("page", IN_ORDER)
def test_command_blocks_succeed(folder: Path, page: str) -> None:
    for block in BLOCKS[page]:
        if block.startswith("make "):
            continue
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
