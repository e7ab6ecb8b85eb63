"""Automatic mixed precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def precision_for(amp: str, device: torch.device) -> torch.dtype | None:
    """The dtype for mixed precision on a device; None for float32.

    Args:
        amp: the hyperparameter: auto, off, bf16 or fp16.
        device: where the network is.
    """
    if amp == "off" or (amp == "auto" and device.type == "cpu"):
        return None
    if amp == "fp16":
        return torch.float16
    # GPUs before Ampere emulate bfloat16, which is many times slower than float16.
    if amp == "auto" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def autocast(device: torch.device, precision: torch.dtype | None) -> AbstractContextManager[Any]:
    """`torch.autocast` to `precision`; does nothing for None."""
    if precision is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)
