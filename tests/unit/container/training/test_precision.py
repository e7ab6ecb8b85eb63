from typing import Any

import pytest
import torch

from container.training.precision import precision_for


@pytest.mark.parametrize(
    ("amp", "device", "ampere", "dtype"),
    [
        ("auto", "cpu", False, None),
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, torch.float16),
        ("bf16", "cpu", False, torch.bfloat16),
        ("fp16", "cuda", True, torch.float16),
        ("off", "cuda", True, None),
    ],
)
def test_precision_by_amp_and_device(
    monkeypatch: pytest.MonkeyPatch, amp: str, device: str, ampere: bool, dtype: Any
) -> None:
    """GPUs before Ampere report support for bfloat16 because they emulate it."""
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or ampere,
    )
    assert precision_for(amp, torch.device(device)) == dtype
