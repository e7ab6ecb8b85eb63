"""The floating-point type a job computes in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def precision_for(amp: str, device: torch.device) -> torch.dtype | None:
    """The type of automatic mixed precision that `amp` means on a device; None for float32.

    Args:
        amp: auto, off, bf16 or fp16, as the hyperparameter has it.
        device: where the network is.
    """
    if amp == "off" or (amp == "auto" and device.type == "cpu"):
        return None
    if amp == "fp16":
        return torch.float16
    # GPUs before Ampere emulate bfloat16, many times slower than they compute in float16.
    if amp == "auto" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def autocast(device: torch.device, precision: torch.dtype | None) -> AbstractContextManager[Any]:
    """`torch.autocast` to a type that `precision_for` gave; does nothing for None."""
    if precision is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)
