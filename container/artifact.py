"""The artifact in `/opt/ml/model`: `model.safetensors`, `model.json` and the OpenVINO export.

Data only, never pickle. `model.json` has everything a prediction depends on (classes, geometry,
normalisation, architecture), so training and serving agree. Does not import torch, because CPU
servers read artifacts too.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from container.errors import ArtifactError
from container.files.fields import FieldError, Fields
from container.files.json_files import to_json
from container.images.geometry import Geometry
from container.precisions import Bfloat16, Int8

FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
OPENVINO = "openvino/model.xml"
OPENVINO_INT8 = "openvino/int8/model.xml"

LARGEST = 8192
"""Largest input side in pixels: four times the limit of training."""

WRAPPERS = 3
"""Nested folders that an archive may have around the model, at most."""


@dataclass(frozen=True)
class Artifact:
    """A trained model on disk.

    Attributes:
        path: the model directory.
        classes: class names in the order of the network's outputs.
        geometry: how an image becomes the network's square input.
        mean, std: per-channel statistics of pixels scaled to 0..1, RGB.
        checksums: the SHA-256 of each file, by its relative path; None in older artifacts.
        export: the OpenVINO export's file, its largest difference from PyTorch's probabilities, the
            number of held-out images compared, and its probabilities for the reference image; None
            without an export.
        provenance: the job, hyperparameters, weights and versions that made it.
        bfloat16: accuracy in bfloat16; None if it was not measured.
        int8: accuracy in int8; None if the model was not quantized.
    """

    path: Path
    arch: str
    stem: str
    head_hidden: tuple[int, ...]
    dropout: float
    image_size: int
    classes: tuple[str, ...]
    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    export: dict[str, Any] | None
    provenance: dict[str, Any]
    bfloat16: Bfloat16 | None = None
    int8: Int8 | None = None
    checksums: dict[str, str] | None = field(default=None, compare=False)

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.path / WEIGHTS

    @property
    def reference(self) -> tuple[float, ...] | None:
        """The export's probabilities for the reference image; None in older artifacts."""
        kept = self.export and self.export.get("reference")
        return tuple(kept) if kept else None

    @property
    def openvino(self) -> Path | None:
        """The exported graph: pixels (N, crop, crop, 3), RGB 0..255, to probabilities (N, C)."""
        return self.path / OPENVINO if self.export else None

    @property
    def openvino_int8(self) -> Path | None:
        """The graph in int8; None if there is none or it loses too much accuracy."""
        kept = self.export and self.int8 is not None and self.int8.good_enough
        return self.path / OPENVINO_INT8 if kept else None

    @property
    def _files(self) -> list[Path]:
        """The files to load, without those of a graph's weights."""
        return [file for file in (self.weights, self.openvino, self.openvino_int8) if file]

    @classmethod
    def read(cls, model_dir: Path) -> "Artifact":
        """Read a model directory, or the single folder in it that an archive was packed with.

        Raises:
            ArtifactError: it is missing, incomplete, damaged, invalid or of another format.
        """
        model_dir = _unwrap(model_dir)
        path = model_dir / DESCRIPTION
        try:
            stored = Fields(json.loads(path.read_text(encoding="utf-8")))
            if stored.items().get("format") != FORMAT:
                raise ArtifactError(
                    f"{path}: format {stored.items().get('format')!r:.80}, expected {FORMAT}; "
                    "the model was made by another version"
                )
            artifact = _parse(stored, model_dir)
        except (FieldError, ValueError, RecursionError) as error:
            reason = str(error) or type(error).__name__
            raise ArtifactError(f"{path}: not an artifact's description: {reason}") from None
        for file in artifact._files:
            if not file.is_file():
                name = file.relative_to(model_dir)
                raise ArtifactError(f"{model_dir}: {DESCRIPTION} names {name}, not found")
        if len(artifact.classes) < 2:
            raise ArtifactError(f"{path}: {len(artifact.classes)} classes, expected at least 2")
        if artifact.reference and len(artifact.reference) != len(artifact.classes):
            raise ArtifactError(
                f"{path}: export.reference: found {len(artifact.reference)} numbers, expected one "
                f"for each of the {len(artifact.classes)} classes"
            )
        artifact._verify()
        return artifact

    def _verify(self) -> None:
        """Raise ArtifactError for the first file that does not match its checksum."""
        if self.checksums is None:
            return
        for file in self._files:
            name = file.relative_to(self.path).as_posix()
            if name not in self.checksums:
                raise ArtifactError(
                    f"{self.path / DESCRIPTION}: sha256: found none, expected that of {name}"
                )
        with ThreadPoolExecutor() as threads:
            found = threads.map(checksum, (self.path / name for name in self.checksums))
            for (name, expected), actual in zip(self.checksums.items(), found, strict=True):
                if actual != expected:
                    raise ArtifactError(
                        f"{self.path / name}: damaged or replaced: found SHA-256 {actual}, "
                        f"expected {expected} by {DESCRIPTION}"
                    )

    def describe(self) -> str:
        """The text of `model.json`."""
        stored = {
            "format": FORMAT,
            "arch": self.arch,
            "stem": self.stem,
            "head_hidden": list(self.head_hidden),
            "dropout": self.dropout,
            "image_size": self.image_size,
            "classes": list(self.classes),
            "geometry": self.geometry.to_json(),
            "mean": list(self.mean),
            "std": list(self.std),
            "export": self.export,
            "sha256": self.checksums,
            "provenance": self.provenance,
            "bfloat16": asdict(self.bfloat16) if self.bfloat16 else None,
            "int8": asdict(self.int8) if self.int8 else None,
        }
        return to_json(stored, indent=2) + "\n"


def checksum(path: Path) -> str:
    """A file's SHA-256 in hexadecimal. Raises ArtifactError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ArtifactError(f"{path}: {DESCRIPTION} names it, not found") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from None


def _unwrap(model_dir: Path) -> Path:
    """The folder of the description. Raises ArtifactError, naming what was found instead."""
    folder = model_dir
    for _ in range(WRAPPERS + 1):
        if (folder / DESCRIPTION).is_file():
            return folder
        try:
            inside = sorted(path for path in folder.iterdir() if not _is_litter(path.name))
        except OSError:
            break
        if len(inside) != 1 or not inside[0].is_dir() or inside[0].is_symlink():
            break
        folder = inside[0]
    names = sorted(path.name for path in model_dir.iterdir()) if model_dir.is_dir() else []
    found = f"found {', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''}"
    raise ArtifactError(
        f"{model_dir}: no {DESCRIPTION}; {found if names else 'found nothing'}, expected a "
        "training job's model at the top of the archive (tar -C model -czf model.tar.gz .)"
    )


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _parse(stored: Fields, model_dir: Path) -> Artifact:
    """Parse the description. Raises FieldError or ValueError naming the invalid field."""
    export = None
    if stored.has("export"):
        fields = stored.object("export")
        export = fields.items()
        if fields.has("reference"):
            fields.numbers("reference")
        if fields.text("openvino") != OPENVINO:
            raise FieldError(
                f"export.openvino: found {export['openvino']!r:.80}, expected {OPENVINO}"
            )
    bfloat16 = int8 = None
    if stored.has("bfloat16"):
        bfloat16 = Bfloat16.from_json(_cost(stored.object("bfloat16")))
    if stored.has("int8"):
        fields = stored.object("int8")
        fields.number("tolerance", low=0, high=100)
        fields.whole("calibration_images", low=0)
        int8 = Int8.from_json(_cost(fields))
    geometry = stored.object("geometry")
    geometry.whole("crop", low=1, high=LARGEST)
    geometry.whole("resize", low=1, high=LARGEST)
    return Artifact(
        path=model_dir,
        arch=stored.text("arch"),
        stem=stored.text("stem"),
        head_hidden=stored.wholes("head_hidden", low=1),
        dropout=stored.number("dropout", low=0, high=1),
        image_size=stored.whole("image_size", low=1, high=LARGEST),
        classes=stored.texts("classes"),
        geometry=Geometry.from_json(geometry.items()),
        mean=stored.three("mean"),
        std=stored.three("std", positive=True),
        export=export,
        provenance=stored.object("provenance").items(),
        bfloat16=bfloat16,
        int8=int8,
        checksums=_checksums(stored),
    )


def _cost(fields: Fields) -> dict[str, Any]:
    """Validate the accuracy of a lower precision. Raises FieldError naming the invalid field."""
    fields.whole("images", low=0)
    for name in ("accuracy", "float32_accuracy", "same_label", "max_difference"):
        fields.number(name, low=0, high=1)
    return fields.items()


def _checksums(stored: Fields) -> dict[str, str] | None:
    if not stored.has("sha256"):
        return None
    fields = stored.object("sha256")
    found = {}
    for name in fields.items():
        path = PurePosixPath(name)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise FieldError(f"sha256: found {name!r:.80}, expected a file of the model directory")
        found[name] = fields.text(name).lower()
    return found
