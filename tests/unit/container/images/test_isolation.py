import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from container.images.isolation import decode_isolated

HIDDEN = """
import pathlib, sys
read_text = pathlib.Path.read_text
def hiding(path, *arguments, **options):
    if path.parts[:2] == ("/", "proc"):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return read_text(path, *arguments, **options)
pathlib.Path.read_text = hiding
"""


def jpeg(width: int = 8, height: int = 6) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height), (200, 60, 60)).save(data, "JPEG")
    return data.getvalue()


def test_an_image_is_decoded() -> None:
    image = decode_isolated(jpeg(), (8, 6))
    assert (image.mode, image.size) == ("RGB", (8, 6))


def test_without_proc_images_are_decoded_without_a_memory_limit(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    done = subprocess.run(
        [sys.executable, "-m", "container.images.decoder_process", str(64 << 20), "20"],
        input=jpeg(),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        timeout=60,
    )
    assert done.stdout.startswith(b"ok RGB 8 6\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_memory_above_the_limit_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "container.images.decoder_process", str(1 << 20), "20"],
        input=jpeg(6000, 4000),
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.startswith(b"error MemoryError")
