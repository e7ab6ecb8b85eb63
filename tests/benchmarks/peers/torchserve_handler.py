"""TorchServe's own image classifier, loading the artifact.

torch-model-archiver --model-name classifier --version 1 --handler torchserve_handler.py
"""

import os
import sys
from typing import Any

import torch
from ts.torch_handler.image_classifier import ImageClassifier

# The archive is unpacked elsewhere.
sys.path.insert(0, os.environ["PEERS"])


class ArtifactClassifier(ImageClassifier):
    def initialize(self, context: Any) -> None:
        from classifier import EagerClassifier

        classifier = EagerClassifier()
        self.model, self.image_processing = classifier.network.eval(), classifier.transform
        self.device = self.map_location = torch.device("cpu")
        self.mapping = {str(index): name for index, name in enumerate(classifier.classes)}
        self.context, self.initialized = context, True
