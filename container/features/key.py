"""What features depend on, by name, and the key under which they are kept."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from container.data.index import Index, content_digest
from container.files.json_files import to_json

FORMAT = 1
"""Of the files and of how features are computed; others are computed anew."""
LARGEST_FLOAT32 = 1 << 30
"""Bytes of one view of a split up to which its features are kept in float32."""

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
"""What a difference in each part means, most telling first."""


@dataclass(frozen=True)
class View:
    """One augmented view of a set of images.

    Attributes:
        augment: the augmentation's name, never none.
        seed: of its random numbers.
        number: from 0; each number is another view.
    """

    augment: str
    seed: int
    number: int


@dataclass(frozen=True)
class FeatureKey:
    """Everything that features depend on.

    Attributes:
        images: SHA-256 of the files' digests and labels, in order.
        count: N, the images.
        arch, stem: the architecture.
        weights: SHA-256 of the backbone's tensors.
        geometry: how an image becomes the network's input.
        mean, std: by which pixels are normalised.
        view: the augmented view, None for the evaluation's geometry.
        width: F, the features of an image.
        precision: what the backbone computes in, float32 or bfloat16.
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
        """float32, or float16 where that would take more than a gibibyte."""
        large = self.count * self.width * 4 > LARGEST_FLOAT32
        return np.dtype(np.float16 if large else np.float32)

    @property
    def parts(self) -> dict[str, Any]:
        """The parts as JSON values, by name."""
        view = None if self.view is None else asdict(self.view)
        whole = asdict(self) | {"view": view, "geometry": dict(self.geometry)}
        return whole | {
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
    """SHA-256 of parts in the order of their names."""
    return hashlib.sha256(to_json(dict(sorted(parts.items()))).encode()).hexdigest()


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is different about features that were found, most telling first."""
    if found.get("format") != expected["format"]:
        return [f"format {found.get('format')!r:.20}, expected {expected['format']}"]
    names = [text for part, text in NAMES.items() if found.get(part) != expected[part]]
    return list(dict.fromkeys(names))


def images_digest(index: Index) -> str:
    """SHA-256 of the digest of each file's bytes and of the labels, in the order of the index.

    Files are read where `container.data.lint` has not done so.
    """
    digest = hashlib.sha256()
    if index.digests is not None:
        digest.update(np.ascontiguousarray(index.digests).tobytes())
    else:
        for position in range(len(index)):
            digest.update(content_digest(index.read(position)))
    digest.update(index.labels.astype("<i8").tobytes())
    return digest.hexdigest()
