"""Pictures and folders that tests make, and whole training jobs run in the test's own process."""

import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from container import train
from tests.trees import write_tree

Encode = Callable[..., bytes]
MakeFolder = Callable[..., Path]
TINY = {
    "arch": "shufflenet_v2_x0_5",
    "weights": "none",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 1,
    "learning_rate": 0.01,
    "workers": 0,
}


@pytest.fixture
def _restore_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_folder: Path, _restore_signals: Any
) -> Any:
    """A function that runs a job on the coloured images and returns its base directory.

    The model is converted to OpenVINO, which takes seconds, only with `export=True`.
    """
    base = tmp_path / "ml"
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(
        channels: Any = ("train", "validation"),
        data: Any = image_folder,
        export: bool = False,
        main: Callable[..., None] = train.main,
        **hyperparameters: Any,
    ) -> Any:
        (base / "input" / "data").mkdir(parents=True, exist_ok=True)
        for channel in channels:
            link = base / "input" / "data" / channel
            if not link.exists():
                link.symlink_to(data / channel)
        write_tree(base, list(channels), TINY | hyperparameters)
        main(export=export)
        return base

    run.base = base  # type: ignore[attr-defined]
    return run


def picture(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Return a smooth random picture, uint8 (height, width, 3), different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray | Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(name="picture")
def picture_fixture() -> Callable[..., np.ndarray]:
    return picture


@pytest.fixture(name="encoded")
def encoded_fixture() -> Encode:
    return encoded


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """make_folder({"train/ants": 3, ...}) writes that many different JPEGs into each folder."""

    def make(counts: dict[str, int], name: str = "set", side: tuple[int, int] = (48, 64)) -> Path:
        root = tmp_path / name
        root.mkdir()
        seed = 0
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True)
            for number in range(count):
                seed += 1
                data = encoded(picture(*side, seed=seed), quality=90)
                (root / folder / f"{number:03d}.jpg").write_bytes(data)
        return root

    return make
