"""scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, bundled with the library."""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from container.data.sources.base import Source
from container.data.splits import stratified

SIDE = 32
_HELD_OUT = 0.15
_BRIGHTEST = 16


class Digits(Source):
    """Digits as 32 x 32 PNG files, about 70 % train and 15 % each validation and test."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """--seed."""
        parser.add_argument("--seed", type=int, default=0, help="chooses the splits (0)")

    def fill(self, folder: Path) -> None:
        """Write train, validation and test."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        labels = digits.target.astype(np.int64)
        rest, test = stratified(labels, _HELD_OUT, self._seed)
        # The share of what is left that makes validation as large as test.
        share = _HELD_OUT / (1 - _HELD_OUT)
        train, validation = (rest[part] for part in stratified(labels[rest], share, self._seed))
        for split, positions in (("train", train), ("validation", validation), ("test", test)):
            for position in positions:
                path = folder / split / str(labels[position]) / f"{position:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                _picture(digits.images[position]).save(path)


def _picture(strokes: npt.NDArray[np.float64]) -> Image.Image:
    """(8, 8) with values 0..16 to a grey picture of 32 x 32."""
    grey = np.round(strokes * (255 / _BRIGHTEST)).astype(np.uint8)
    return Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
