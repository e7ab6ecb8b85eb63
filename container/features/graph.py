"""The backbone as an OpenVINO graph: converted once, cached, and joined with a trained head."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from container.artifact import checksum
from container.errors import ArtifactError, first_line
from container.features.backbone import Backbone
from container.features.cache import FeatureCache
from container.features.key import key_of
from container.features.store import PARTIAL
from container.files.json_files import replace_text, to_json
from container.openvino_runtime import core, openvino
from container.results.conversion import convert

PREFIX = "graph-"
"""Prefix of a graph's folder name, before its key."""
_FILES = ("backbone.xml", "backbone.bin")
_DESCRIPTION = "graph.json"


def graph_name(parts: dict[str, Any]) -> str:
    """The name of a backbone's graph in a cache, from its key and the converters' versions."""
    versions = {"openvino": openvino().__version__, "torch": torch.__version__}
    return PREFIX + key_of(parts | versions)


def kept_graph(cache: FeatureCache, name: str) -> Any | None:
    """A backbone's graph, if the channel or the cache has it undamaged."""
    for folder in (cache.in_channel(name), cache.folder(name)):
        if folder is not None and folder.is_dir():
            try:
                stored = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
                for file in _FILES:
                    if checksum(folder / file) != stored[file]:
                        raise ValueError(f"{file} does not match its checksum")
                return core().read_model(folder / _FILES[0])
            except (ArtifactError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
                cache.say(f"{folder}: damaged ({first_line(error)}): converting again")
    return None


def keep_graph(cache: FeatureCache, name: str, backbone: Backbone, image_size: int) -> Any:
    """Convert a backbone on the CPU, cache its graph, and return it."""
    ov = openvino()
    pixels = np.zeros((2, image_size, image_size, 3), dtype=np.float32)
    graph = convert(backbone, pixels, output="features")
    final = cache.folder(name)
    folder = final.with_name(name + PARTIAL)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        ov.save_model(graph, folder / _FILES[0], compress_to_fp16=False)
        sums = {file: checksum(folder / file) for file in _FILES}
        replace_text(folder / _DESCRIPTION, to_json(sums) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        cache.say(f"the backbone's graph is not kept: {first_line(error)}")
    return graph


def join_head(graph: Any, head: nn.Module) -> Any:
    """A graph from pixels to probabilities: the backbone's, the head's layers and a softmax.

    Args:
        graph: maps pixels to features; not modified.
        head: a linear layer, or a sequence of linear layers, ReLUs and dropout.

    Raises:
        ValueError: the head has a layer of another type.
    """
    ov = openvino()
    opset = ov.opset13
    backbone = graph.clone()
    node = backbone.output(0).get_node().input_value(0)
    for layer in head if isinstance(head, nn.Sequential) else [head]:
        node = _LAYERS[_kind(layer)](opset, node, layer)
    node = opset.softmax(node, 1)
    joined = ov.Model([opset.result(node)], backbone.get_parameters(), "classifier")
    joined.input(0).set_names({"pixels"})
    joined.output(0).set_names({"probabilities"})
    return joined


def _kind(layer: nn.Module) -> type[nn.Module]:
    for kind in _LAYERS:
        if isinstance(layer, kind):
            return kind
    raise ValueError(f"found a {type(layer).__name__} in the head")


def _linear(opset: Any, node: Any, layer: Any) -> Any:
    weight = opset.constant(layer.weight.detach().cpu().numpy())
    product = opset.matmul(node, weight, False, True)
    if layer.bias is None:
        return product
    return opset.add(product, opset.constant(layer.bias.detach().cpu().numpy()[None]))


_LAYERS: dict[type[nn.Module], Callable[[Any, Any, Any], Any]] = {
    nn.Linear: _linear,
    nn.ReLU: lambda opset, node, _layer: opset.relu(node),
    nn.Dropout: lambda _opset, node, _layer: node,
    nn.Identity: lambda _opset, node, _layer: node,
}
