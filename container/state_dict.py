"""Tensors by name put back into the network they came from.

What a safetensors file keeps of a `state_dict` is its tensors. Some modules also read the version
that PyTorch stores beside them (`_metadata`): MNASNet loads nothing without it.
"""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn


def not_finite(module: nn.Module) -> str | None:
    """The name of a parameter or buffer that holds NaN or an infinity; None when all are finite."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return name
    return None


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """`load_state_dict` of tensors without versions: they have those the module writes today.

    Raises:
        RuntimeError: they do not fit, as `torch.nn.Module.load_state_dict` has it.
    """
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=strict)
