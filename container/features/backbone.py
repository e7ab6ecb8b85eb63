"""The backbone of a classifier: the network without its head."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from container.errors import FeatureError
from container.models import Classifier


class Backbone(nn.Module):
    """Maps pixels, RGB 0..255 (N, H, W, 3), to features, float32 (N, F).

    Args:
        classifier: one whose head `headless` has removed.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features."""
        images = self.classifier.normalize(pixels.permute(0, 3, 1, 2))
        features: Tensor = self.classifier.network(images)
        return features.float()


@contextmanager
def headless(classifier: Classifier, head: str) -> Iterator[Backbone]:
    """Within the block, the classifier is in eval mode and its head is an identity.

    Args:
        head: name of the head within `classifier.network`.
    """
    parent, _, child = head.rpartition(".")
    owner = classifier.network.get_submodule(parent)
    module = owner.get_submodule(child)
    training = classifier.training
    setattr(owner, child, nn.Identity())
    try:
        yield Backbone(classifier).eval()
    finally:
        setattr(owner, child, module)
        classifier.train(training)


def feature_width(classifier: Classifier, head: str, image_size: int) -> int:
    """F, the number of features per image, found with one forward pass.

    Raises:
        FeatureError: the head's input is not one vector per image, or other layers follow the head.
    """
    inputs: list[object] = []
    module = classifier.network.get_submodule(head)
    hook = module.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    training = classifier.training
    images = torch.zeros(1, 3, image_size, image_size, device=classifier.mean.device)
    try:
        with torch.inference_mode():
            logits = classifier.eval().network(images)
            features = inputs[0] if len(inputs) == 1 else None
            if not isinstance(features, Tensor) or features.ndim != 2:
                found = "several inputs" if features is None else _shape(features)
                raise FeatureError(
                    f"the head {head!r} takes {found}, expected one vector for each image"
                )
            if not torch.equal(module(features), logits):
                raise FeatureError(f"other layers follow the head {head!r}, expected none")
    finally:
        hook.remove()
        classifier.train(training)
    return features.shape[1]


def _shape(value: object) -> str:
    shape = getattr(value, "shape", None)
    return f"a tensor of shape {tuple(shape)[1:]} for each image" if shape else "no tensor"


def weights_digest(classifier: Classifier, head: str) -> str:
    """SHA-256 of the names, types, shapes and values of every tensor but the head's."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.network.state_dict().items()):
        if name == head or name.startswith(f"{head}."):
            continue
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(memoryview(values.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
