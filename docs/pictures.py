"""Takes the README's pictures of the pages that jobs leave, with Chromium.

    .venv/bin/python docs/pictures.py job=first/index.html tuning=search/tuning.html \\
        profiler=first/report/profiler-report.html

The pages are those that `berth report` writes; each picture goes to docs/images/NAME.png.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 1000
FLAGS = "--headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=10000"


def take(page: Path, picture: Path) -> None:
    """Write the upper part of a page, 1280 x 1000 pixels, as PNG."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("no chromium on PATH")
    with tempfile.TemporaryDirectory() as profile:
        taken = Path(profile) / "taken.png"
        command = [browser, *FLAGS.split(), f"--user-data-dir={profile}", f"--screenshot={taken}"]
        command += [f"--window-size={WIDTH},{HEIGHT}", page.resolve().as_uri()]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=120)
        picture.parent.mkdir(exist_ok=True)
        with Image.open(taken) as image:
            image.convert("RGB").save(picture, optimize=True)


def main(arguments: list[str]) -> None:
    """Take the picture of each NAME=PAGE."""
    for argument in arguments:
        name, _, page = argument.partition("=")
        take(Path(page), IMAGES / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
