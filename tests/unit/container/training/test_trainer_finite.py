"""Non-finite networks are not saved as models, and non-finite metrics still give valid JSON."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from container.artifact import Artifact
from container.errors import JobEnded
from container.files.json_files import to_json
from container.training import trainer


def strictly(text: str) -> object:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def validations(
    monkeypatch: pytest.MonkeyPatch,
    *results: tuple[float, float],
    before: Callable[[nn.Module], None] = lambda _network: None,
) -> None:
    """Replace each epoch's validation with a (loss, accuracy), calling `before` on the network."""
    left = list(results)

    def validate(_self: object, network: nn.Module) -> tuple[float, float]:
        before(network)
        return left.pop(0)

    monkeypatch.setattr(trainer.Trainer, "_validate", validate)


def test_an_epoch_that_is_not_finite_is_never_the_best(
    job: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    validations(monkeypatch, (0.5, 0.5), (math.nan, 0.9))
    base = job(epochs=2, batch_size=36)
    assert Artifact.read(base / "model").provenance["epoch"] == 1
    assert "epoch 2 is not kept: its validation loss is" in capsys.readouterr().out
    for path in [*base.rglob("*.json"), *base.rglob("*.jsonl")]:
        lines = path.suffix == ".jsonl"
        for text in path.read_text().splitlines() if lines else [path.read_text()]:
            strictly(text)
    last = (base / "output" / "data" / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["validation:loss"] is None


def _spoil_statistics(network: nn.Module) -> None:
    buffer = next(value for name, value in network.named_buffers() if "running_var" in name)
    buffer[0] = math.inf


def _spoil_weights(network: nn.Module) -> None:
    with torch.no_grad():
        next(network.parameters())[0] = math.nan


@pytest.mark.parametrize(
    ("result", "spoil", "options"),
    [
        ((math.nan, 0.5), lambda _network: None, {}),
        ((0.5, 0.5), _spoil_statistics, {}),
        ((0.5, 0.5), _spoil_weights, {}),
        ((0.5, 0.5), _spoil_weights, {"ema": 0.9}),
    ],
)
def test_a_job_without_a_finite_epoch_fails_with_one_line(
    job: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    result: tuple[float, float],
    spoil: Callable[[nn.Module], None],
    options: dict[str, object],
) -> None:
    validations(monkeypatch, result, before=spoil)
    with pytest.raises(JobEnded, match=r"no epoch ended with a finite .* lower learning_rate"):
        job(epochs=1, batch_size=36, **options)
    assert not list((job.base / "model").glob("*"))  # type: ignore[attr-defined]


def test_the_last_step_makes_the_weights_infinite(job: Callable[..., Path]) -> None:
    """The loss of a step is computed before its update; only validation sees the new weights."""
    with pytest.raises(JobEnded, match="finite"):
        job(epochs=1, batch_size=36, optimizer="sgd", learning_rate=1000, schedule="constant",
            weight_decay=1e30)  # fmt: skip


def test_non_finite_numbers_become_null() -> None:
    value = {"a": [math.nan, 1.5], "b": np.float32("inf"), "c": (np.int64(3), None, True, "x")}
    assert to_json(value) == '{"a": [null, 1.5], "b": null, "c": [3, null, true, "x"]}'
    assert to_json(np.array([[1.0, np.nan]])) == "[[1.0, null]]"
