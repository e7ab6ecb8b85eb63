"""A backbone is converted once; with a trained head it is the whole classifier's graph."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from container.features.backbone import headless
from container.features.cache import FeatureCache
from container.features.graph import join_head, keep_graph, kept_graph
from container.openvino_runtime import core
from tests.unit.container.features import tiny


def test_a_cached_graph_joined_with_a_head_equals_the_classifier(tmp_path: Path) -> None:
    said: list[str] = []
    cache = FeatureCache(tmp_path, False, say=said.append)
    classifier = tiny.classifier().eval()
    assert kept_graph(cache, "graph-key") is None
    with headless(classifier, tiny.HEAD) as backbone:
        keep_graph(cache, "graph-key", backbone, tiny.SIDE)
    graph = kept_graph(cache, "graph-key")
    assert graph is not None
    torch.manual_seed(3)
    for head in (
        nn.Linear(tiny.WIDTH, 4),
        nn.Sequential(nn.Dropout(0.5), nn.Linear(tiny.WIDTH, 5), nn.ReLU(), nn.Linear(5, 2)),
    ):
        joined = join_head(graph, head.eval())
        classifier.network[4] = head
        pixels = np.random.default_rng(0).integers(0, 256, (3, tiny.SIDE, tiny.SIDE, 3))
        with torch.inference_mode():
            expected = classifier(torch.from_numpy(pixels).float()).numpy()
        compiled = core().compile_model(joined, "CPU")
        found = compiled({"pixels": pixels.astype(np.float32)})["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="found a Tanh in the head"):
        join_head(graph, nn.Sequential(nn.Tanh()))
    assert said == []

    weights = tmp_path / "graph-key" / "backbone.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert kept_graph(cache, "graph-key") is None
    assert "backbone.bin does not match its checksum): converting again" in said[0]
