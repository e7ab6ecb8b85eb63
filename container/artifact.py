"""What `/opt/ml/model` holds: `model.safetensors`, `model.json` and the OpenVINO export.

Data only, never pickle. Everything a prediction depends on (classes, geometry, normalisation,
architecture) travels in `model.json`, so training and serving cannot disagree. Imports no torch:
a server on a CPU reads artifacts too.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from container.data.geometry import Geometry
from container.errors import ArtifactError
from container.precision import Bfloat16

FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
OPENVINO = "openvino/model.xml"


@dataclass(frozen=True)
class Artifact:
    """A trained model on disk.

    Attributes:
        path: the model directory.
        classes: class names in the order of the network's outputs.
        geometry: how an image becomes the network's square input.
        mean, std: per-channel statistics of pixels scaled to 0..1, RGB.
        export: what is known of the OpenVINO export: its file and the largest probability
            difference from PyTorch seen on how many held-out images; None when there is none.
        provenance: the job, hyperparameters, weights and versions that made it.
        bfloat16: what serving in bfloat16 costs; None when it was not measured.
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

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.path / WEIGHTS

    @property
    def openvino(self) -> Path | None:
        """The exported graph: pixels (N, crop, crop, 3), RGB 0..255, to probabilities (N, C)."""
        return self.path / OPENVINO if self.export else None

    @classmethod
    def read(cls, model_dir: Path) -> "Artifact":
        """Read a model directory.

        Raises:
            ArtifactError: it is missing, incomplete, of another format, or makes no sense.
        """
        path = model_dir / DESCRIPTION
        if not path.is_file():
            raise ArtifactError(f"{model_dir}: no {DESCRIPTION}; expected what a training job left")
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise ArtifactError(
                    f"{path}: format {stored['format']!r}, expected {FORMAT}; "
                    "the model was made by another version"
                )
            mean, std = _three(stored["mean"]), _three(stored["std"])
            bfloat16 = stored.get("bfloat16")
            artifact = cls(
                path=model_dir,
                arch=str(stored["arch"]),
                stem=str(stored["stem"]),
                head_hidden=tuple(int(width) for width in stored["head_hidden"]),
                dropout=float(stored["dropout"]),
                image_size=int(stored["image_size"]),
                classes=tuple(str(name) for name in stored["classes"]),
                geometry=Geometry.from_json(stored["geometry"]),
                mean=mean,
                std=std,
                export=stored["export"],
                provenance=dict(stored["provenance"]),
                bfloat16=Bfloat16.from_json(bfloat16) if bfloat16 else None,
            )
        except ArtifactError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path}: not an artifact's description ({error!r})") from None
        for file in (artifact.weights, artifact.openvino):
            if file and not file.is_file():
                raise ArtifactError(f"{model_dir}: {DESCRIPTION} names {file.name}, not found")
        if len(artifact.classes) < 2:
            raise ArtifactError(f"{path}: {len(artifact.classes)} classes, expected at least 2")
        return artifact

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
            "provenance": self.provenance,
            "bfloat16": asdict(self.bfloat16) if self.bfloat16 else None,
        }
        return json.dumps(stored, indent=2, ensure_ascii=False) + "\n"


def _three(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
