"""The classifier: normalisation, network and softmax in one module.

The same `Classifier` is trained, exported and served, so the preprocessing exists only once.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from container.architectures import build_network
from container.artifact import Artifact
from container.errors import ArtifactError
from container.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD


class Classifier(nn.Module):
    """Pixels to class probabilities.

    Args:
        network: maps normalised float images (N, 3, H, W) to logits (N, C).
        mean: channel means of pixels scaled to 0..1, RGB.
        std: channel standard deviations, likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Pixels 0..255 (N, 3, H, W), uint8 or float, to normalised float32."""
        # In place, because copying a batch costs more than its arithmetic.
        return images.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB pixels 0..255 (N, H, W, 3), uint8 or float32, to float32 probabilities (N, C)."""
        logits = self.network(self.normalize(pixels.permute(0, 3, 1, 2)))
        return torch.softmax(logits.float(), dim=1)


def load_classifier(artifact: Artifact, device: str = "cpu") -> Classifier:
    """Load the artifact's model in PyTorch, in eval mode.

    Raises:
        ArtifactError: the weights cannot be read or do not fit the architecture in `model.json`.
    """
    network, _ = build_network(
        artifact.arch,
        len(artifact.classes),
        image_size=artifact.image_size,
        stem=artifact.stem,
        head_hidden=artifact.head_hidden,
        dropout=artifact.dropout,
    )
    try:
        load_tensors(network, load_file(artifact.weights))
    except Exception as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise ArtifactError(
            f"{artifact.weights}: expected the weights of {artifact.arch} with "
            f"{len(artifact.classes)} classes, found {cause}"
        ) from None
    return Classifier(network, artifact.mean, artifact.std).eval().to(device)


def not_finite(module: nn.Module) -> str | None:
    """The name of a parameter or buffer with NaN or infinity; None if all are finite."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return name
    return None


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """`load_state_dict` for tensors without metadata, using that of the module.

    safetensors files lack the version numbers that PyTorch stores in a `state_dict` (`_metadata`).
    Some modules read them: MNASNet cannot be loaded without.

    Raises:
        RuntimeError: they do not fit, from `torch.nn.Module.load_state_dict`.
    """
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=strict)
