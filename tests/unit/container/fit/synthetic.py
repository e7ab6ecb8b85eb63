"""Synthetic features of images: a cloud of points around the centre of each class."""

import numpy as np

from container.fit.linear.selection import LabelledFeatures


def clouds(
    per_class: int, classes: int = 3, width: int = 12, spread: float = 1.0, seed: int = 0
) -> LabelledFeatures:
    centres = 2 * np.random.default_rng(7).standard_normal((classes, width))
    labels = np.repeat(np.arange(classes), per_class)
    noise = np.random.default_rng(seed).standard_normal((len(labels), width))
    scale = np.linspace(0.1, 30, width)
    values = (centres[labels] + spread * noise) * scale + 5
    return LabelledFeatures(values.astype(np.float32), labels)
