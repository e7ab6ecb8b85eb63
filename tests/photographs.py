"""Synthetic JPEGs with the size and detail of photographs, for benchmarks without given photos."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375


def photograph(seed: int) -> bytes:
    """A JPEG of 500 x 375 pixels with about the file size of a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT)), np.float32)
    noisy = smooth + random.normal(0, 6, (HEIGHT, WIDTH, 3))
    data = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=85)
    return data.getvalue()


def photographs(folder: Path, count: int) -> Path:
    """Write `count` synthetic photographs to two class folders in `folder`; return `folder`."""
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(number))
    return folder
