import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import SimpleNamespace

import numpy as np
import pytest

from container.artifact import Artifact
from serve.errors import OutOfMemory, TimedOut
from serve.explanations import explainer as explainer_module
from serve.explanations.explainer import Explainer
from serve.payloads.images import Pixels, Probabilities

SIDE = 70


def red_share(pixels: Iterator[Pixels], _deadline: float) -> list[Probabilities]:
    """Predict class 0 with a probability that grows with the share of red pixels."""
    rows = []
    for image in pixels:
        red = (image[..., 0] > 200) & (image[..., 1] < 50)
        share = 0.5 + red.mean() / 2
        rows.append(np.array([share, 1 - share], np.float32))
    return rows


def test_occlusion_finds_the_relevant_part(artifact: Artifact) -> None:
    image = np.full((SIDE, SIDE, 3), 128, np.uint8)
    image[10:20, 50:60] = (255, 0, 0)
    explainer = Explainer(artifact, red_share, cpus=0)
    heat = explainer.explain(image, 0, monotonic() + 60)
    assert heat.shape == (7, 7)
    assert heat[1, 5] == heat.max() == 1
    assert heat[4:].max() == heat[:, :3].max() == 0
    assert explainer.explain(image, 1, monotonic() + 60).max() == 0, "red speaks against class 1"
    np.testing.assert_array_equal(image[10:20, 50:60], np.broadcast_to((255, 0, 0), (10, 10, 3)))


class Memory:
    """Grants memory for a second copy of a model once `enough` is set."""

    def __init__(self) -> None:
        self.enough = False
        self.asked = 0

    @contextmanager
    def room(self, _deadline: float) -> Iterator[None]:
        self.asked += 1
        if not self.enough:
            raise OutOfMemory("memory: none is left")
        yield


def test_occlusion_explains_until_memory_for_the_graph_is_free(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = np.full((2, 2), 0.5)
    activation = SimpleNamespace(heat=lambda *_: compiled)
    monkeypatch.setattr(
        explainer_module, "ClassActivation", SimpleNamespace(of=lambda *_: activation)
    )
    memory = Memory()
    explainer = Explainer(artifact, red_share, 1, memory.room)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for _ in range(2):
        assert explainer.explain(image, 0, monotonic() + 60).shape == (7, 7)
    memory.enough = True
    for _ in range(2):
        assert explainer.explain(image, 0, monotonic() + 60) is compiled
    assert memory.asked == 3


def test_an_explanation_ends_at_the_requests_deadline(artifact: Artifact) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(pixels: Iterator[Pixels], deadline: float) -> list[Probabilities]:
        if monotonic() > deadline:
            raise TimedOut("no answer within the time an invocation may take")
        entered.set()
        leave.wait(60)
        return red_share(pixels, deadline)

    explainer = Explainer(artifact, slow, cpus=0)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    thread = threading.Thread(target=explainer.explain, args=(image, 0, monotonic() + 60))
    thread.start()
    assert entered.wait(60)
    with pytest.raises(TimedOut):
        explainer.explain(image, 0, monotonic() - 1)
    leave.set()
    thread.join()
