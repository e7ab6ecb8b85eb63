"""One step on several batches equals one step on all of their images."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from container.errors import JobEnded
from container.training.accumulation import (
    GroupLoss,
    ends_step,
    in_groups,
    loss_weight,
    steps_of,
)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))


def gradients(of: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in of.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("sizes", [[6], [4, 4], [4, 4, 1], [1, 2, 9, 3]])
@pytest.mark.parametrize("class_weights", [None, torch.tensor([0.2, 1.0, 7.0])])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_gradient_is_that_of_all_images_at_once(
    sizes: list[int], class_weights: Tensor | None, mixed: bool
) -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(sum(sizes), 5, generator=generator)
    labels = torch.randint(0, 3, (sum(sizes),), generator=generator)
    targets = torch.rand(sum(sizes), 3, generator=generator).softmax(1) if mixed else labels

    whole = network()
    expected = F.cross_entropy(whole(images), targets, class_weights, label_smoothing=0.1)
    expected.backward()

    parts, total, start = network(), GroupLoss([]), 0
    total = GroupLoss(parts.parameters())
    for number, size in enumerate(sizes, 1):
        rows = slice(start, start + size)
        start += size
        logits = parts(images[rows])
        mean = F.cross_entropy(logits, targets[rows], class_weights, label_smoothing=0.1)
        weight = loss_weight(targets[rows], class_weights)
        total.add(mean, weight, last=number == len(sizes)).backward()
        total.count(logits, labels[rows])
    assert total.mean.item() == pytest.approx(expected.item(), rel=1e-5)
    assert total.images == sum(sizes)
    assert total.hits.item() == (whole(images).argmax(1) == labels).sum()
    for one, other in zip(gradients(parts), gradients(whole), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
        assert len(sizes) > 1 or torch.equal(one, other)


def test_batches_are_grouped_lazily() -> None:
    asked: list[int] = []
    waited: list[int] = []

    def batches() -> Any:
        for number in range(7):
            asked.append(number)
            yield number

    def waiting() -> Any:
        waited.append(len(asked))
        return nullcontext()

    found = []
    for group in in_groups(batches(), 3, waiting):
        members = []
        for batch in group:
            assert asked[-1] == batch
            members.append(batch)
        found.append(members)
    assert found == [[0, 1, 2], [3, 4, 5], [6]]
    assert waited == [1, 2, 4, 5, 7], "each batch after the first of its group, and the end"


def test_a_group_of_one_batch_never_waits() -> None:
    asked: list[int] = []

    def batches() -> Any:
        for number in range(3):
            asked.append(number)
            yield number

    def waiting() -> Any:
        raise AssertionError("one batch is no group to wait for")

    groups = in_groups(batches(), 1, waiting)
    assert list(next(groups)) == [0]
    assert asked == [0]


@pytest.mark.parametrize(("batches", "size"), [(7, 3), (6, 3), (1, 3), (5, 1), (4, 9)])
def test_steps_end_with_their_groups(batches: int, size: int) -> None:
    ends = [ends_step(batch, batches, size) for batch in range(batches)]
    groups = [list(group) for group in in_groups(iter(range(batches)), size, nullcontext)]
    assert sum(ends) == len(groups) == steps_of(batches, size)
    assert [ends[group[-1]] for group in groups] == [True] * len(groups)


def trained(job: Any, **given: Any) -> tuple[list[dict[str, float]], dict[str, Tensor], int]:
    """Run a job; return each epoch's metrics, the weights and the number of optimizer steps."""
    shutil.rmtree(job.base, ignore_errors=True)
    base: Path = job(augment="none", optimizer="sgd", learning_rate=0.05, epochs=2, **given)
    lines = (base / "output" / "data" / "metrics.jsonl").read_text().splitlines()
    steps = max(int(path.stem[-8:]) for path in (base / "checkpoints").glob("checkpoint-*.json"))
    return list(map(json.loads, lines)), load_file(base / "model" / "model.safetensors"), steps


@pytest.mark.parametrize(
    "options",
    [
        {"freeze_batch_norm": True, "ema": 0.5, "gradient_clip": 0.5, "warmup_epochs": 1.5},
        {"freeze_batch_norm": True, "class_weights": "balanced", "label_smoothing": 0.1},
        {"freeze": True, "feature_cache": "off"},
        {"freeze": True, "feature_cache": "on"},
    ],
)
def test_accumulation_equals_larger_batches(job: Any, options: Any) -> None:
    """The last step of an epoch of 36 images has 16, in batches of 10 and 6."""
    whole, expected, steps = trained(job, batch_size=20, **options)
    parts, weights, part_steps = trained(
        job, batch_size=10, gradient_accumulation_steps=2, **options
    )
    assert part_steps == steps == 4
    for one, other in zip(parts, whole, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    for name, value in expected.items():
        assert torch.allclose(weights[name].float(), value.float(), rtol=1e-3, atol=1e-5), name


def test_more_accumulation_steps_than_batches_is_refused(job: Any) -> None:
    with pytest.raises(JobEnded, match=r"gradient_accumulation_steps.*found 6, expected at most 5"):
        job(batch_size=8, gradient_accumulation_steps=6)


def test_profiles_and_curves_count_optimizer_steps(job: Any) -> None:
    given = {"batch_size": 10, "gradient_accumulation_steps": 2, "epochs": 2}
    data = job(profile=True, profile_steps="none", **given) / "output" / "data"
    events: list[dict[str, Any]] = [
        event
        for path in (data / "profiler" / "framework").rglob("*.json")
        for event in json.loads(path.read_text())
        if event.get("args", {}).get("mode") == "train"
    ]
    steps = [e["args"]["step_num"] for e in events if e["name"] == "Step:ModeKeys.TRAIN"]
    forwards = [e["args"]["step_num"] for e in events if e["name"] == "Forward"]
    assert sorted(map(int, steps)) == [0, 1, 2, 3]
    assert sorted(map(int, forwards)) == [0, 0, 1, 1, 2, 2, 3, 3]
    curves = [json.loads(line) for line in (data / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curves] == [0, 1, 2, 3]


def test_the_last_step_of_an_epoch_may_have_fewer_batches(job: Any) -> None:
    _, _, steps = trained(job, batch_size=8, gradient_accumulation_steps=3)
    assert steps == 4
