"""The key of features: everything they depend on."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from container.data.index import Index, content_digest
from container.files.json_files import to_json

FORMAT = 1
"""Version of the files and of the computation; features of another version are computed again."""
LARGEST_FLOAT32 = 1 << 30
"""Largest view of a split, in bytes, whose features are kept in float32."""

NAMES = {
    "images": "another data set",
    "arch": "another architecture",
    "stem": "another stem",
    "weights": "other weights of the backbone",
    "geometry": "another image size, resize or interpolation",
    "mean": "another normalisation",
    "std": "another normalisation",
    "view": "another augmented view (augment, seed or number)",
    "precision": "another precision",
    "dtype": "another dtype",
    "width": "another number of features",
    "count": "another number of images",
}
"""The meaning of a difference in each part, most informative first."""


@dataclass(frozen=True)
class View:
    """One augmented view of a set of images.

    Attributes:
        augment: the augmentation's name, never none.
        seed: seed of its random numbers.
        number: number of the view, from 0.
    """

    augment: str
    seed: int
    number: int


@dataclass(frozen=True)
class FeatureKey:
    """Everything that features depend on.

    Attributes:
        images: SHA-256 of the files' digests and labels, in order.
        count: N, the number of images.
        arch, stem: the architecture and its stem.
        weights: SHA-256 of the backbone's tensors.
        geometry: how an image becomes the network's input.
        mean, std: normalisation of pixels.
        view: the augmented view; None for the evaluation geometry.
        width: F, the number of features per image.
        precision: float32 or bfloat16, in which the backbone computes.
    """

    images: str
    count: int
    arch: str
    stem: str
    weights: str
    geometry: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    view: View | None
    width: int
    precision: str = "float32"

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, or float16 if that would take more than 1 GiB."""
        large = self.count * self.width * 4 > LARGEST_FLOAT32
        return np.dtype(np.float16 if large else np.float32)

    @property
    def parts(self) -> dict[str, Any]:
        """The parts by name, as JSON values."""
        return asdict(self) | {
            "view": None if self.view is None else asdict(self.view),
            "geometry": dict(self.geometry),
            "mean": list(self.mean),
            "std": list(self.std),
            "dtype": self.dtype.name,
            "format": FORMAT,
        }

    @property
    def name(self) -> str:
        """The key: 64 hexadecimal digits."""
        return key_of(self.parts)


def key_of(parts: Mapping[str, Any]) -> str:
    """SHA-256 of the parts, sorted by name, in hexadecimal."""
    return hashlib.sha256(to_json(dict(sorted(parts.items()))).encode()).hexdigest()


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """How features that were found differ from the expected ones, most informative first."""
    if found.get("format") != expected["format"]:
        return [f"format {found.get('format')!r:.20}, expected {expected['format']}"]
    names = [text for part, text in NAMES.items() if found.get(part) != expected[part]]
    return list(dict.fromkeys(names))


def images_digest(index: Index) -> str:
    """SHA-256 of the files' digests and the labels, in index order.

    Reads the files if `container.data.lint` has not done so.
    """
    digest = hashlib.sha256()
    if index.digests is not None:
        digest.update(np.ascontiguousarray(index.digests).tobytes())
    else:
        for position in range(len(index)):
            digest.update(content_digest(index.read(position)))
    digest.update(index.labels.astype("<i8").tobytes())
    return digest.hexdigest()
